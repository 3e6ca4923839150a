"""RAdam, transcribed literally into float64 NumPy, once per implementation that we follow.

Nothing here comes from radam_core. Each function walks one tensor through `grads` [updates, size]
and returns where it was after every update, [updates, size].
"""

import math

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def algorithm_2(
    theta: Array,
    grads: Array,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    *,
    exact: bool = False,
    l2: bool = False,
    corrected_eps: bool = False,
) -> Array:
    """Algorithm 2 of the paper; on demand with Eq. 2 for r, L2 decay, or eps where Adam has it."""
    m, v = np.zeros_like(theta), np.zeros_like(theta)
    rho_inf = 2 / (1 - beta2) - 1
    path = []
    for t, g in enumerate(grads, start=1):
        if l2:
            g = g + weight_decay * theta
        else:
            theta = theta - lr * weight_decay * theta
        v = beta2 * v + (1 - beta2) * g**2
        m = beta1 * m + (1 - beta1) * g
        m_hat = m / (1 - beta1**t)
        rho = rho_inf - 2 * t * beta2**t / (1 - beta2**t)
        if rho > (2 if exact else 4):
            if corrected_eps:
                length = 1 / (np.sqrt(v / (1 - beta2**t)) + eps)
            else:
                length = np.sqrt(1 - beta2**t) / (np.sqrt(v) + eps)
            if exact:
                r = math.sqrt(eq_2(rho_inf) / eq_2(rho))
            else:
                r = math.sqrt(
                    (rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho)
                )
            theta = theta - lr * r * m_hat * length
        else:
            theta = theta - lr * m_hat
        path.append(theta)
    return np.array(path)


def eq_2(rho: float) -> float:
    """Eq. 2 with tau = 1 as the paper prints it, the Beta function by log-gammas."""
    a = (rho - 1) / 2
    log_beta = 2 * math.lgamma(a) - math.lgamma(2 * a)
    square = math.exp((2 * rho - 5) * math.log(2) + 2 * log_beta)
    return rho / (rho - 2) - rho * square / math.pi


def authors(
    theta: Array,
    grads: Array,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    *,
    degenerated_to_sgd: bool = True,
) -> Array:
    """The authors' code: with SGD first in their recipes' copies, without in the shipped file."""
    exp_avg, exp_avg_sq = np.zeros_like(theta), np.zeros_like(theta)
    path = []
    for step, grad in enumerate(grads, start=1):
        exp_avg_sq = exp_avg_sq * beta2 + (1 - beta2) * grad * grad
        exp_avg = exp_avg * beta1 + (1 - beta1) * grad
        beta2_t = beta2**step
        n_sma_max = 2 / (1 - beta2) - 1
        n_sma = n_sma_max - 2 * step * beta2_t / (1 - beta2_t)
        if n_sma >= 5:
            variance = (n_sma - 4) / (n_sma_max - 4) * (n_sma - 2) / n_sma
            variance = variance * n_sma_max / (n_sma_max - 2)
            step_size = math.sqrt((1 - beta2_t) * variance) / (1 - beta1**step)
            theta = theta - weight_decay * lr * theta
            theta = theta - step_size * lr * exp_avg / (np.sqrt(exp_avg_sq) + eps)
        elif degenerated_to_sgd:
            theta = theta - weight_decay * lr * theta
            theta = theta - lr / (1 - beta1**step) * exp_avg
        path.append(theta)
    return np.array(path)


def torch_radam(
    theta: Array,
    grads: Array,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
) -> Array:
    """The algorithm in the documentation of torch.optim.RAdam, with its defaults."""
    m, v = np.zeros_like(theta), np.zeros_like(theta)
    rho_inf = 2 / (1 - beta2) - 1
    path = []
    for t, g in enumerate(grads, start=1):
        g = g + weight_decay * theta
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        m_hat = m / (1 - beta1**t)
        rho = rho_inf - 2 * t * beta2**t / (1 - beta2**t)
        if rho > 5:
            length = np.sqrt(1 - beta2**t) / (np.sqrt(v) + eps)
            r = math.sqrt((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho))
            theta = theta - lr * m_hat * r * length
        else:
            theta = theta - lr * m_hat
        path.append(theta)
    return np.array(path)
