/* The formulas that the explorer draws: those of radam_core's `rectification` and `factors`, for
   beta2 from 0.6 to 0.9999. The browser tests hold them equal to the package's to 1e-9.

   A variant is an object {threshold, strict, early, rectification}, as radam_core.algorithm has it. */
"use strict";

const rectification = (() => {
  // The difference of two of Stirling's series, in powers of 1/z^2 times 1/z, the highest first.
  const STIRLING = [691 / 90112, -31 / 9216, 17 / 7168, -1 / 320, 1 / 96, -1 / 4];

  const rhoInf = (beta2) => (1 + beta2) / (1 - beta2); // Algorithm 2, line 2

  // Algorithm 2, line 8, with beta2^t / (1 - beta2^t) = 1 / expm1(-t ln beta2).
  const rho = (t, beta2) => rhoInf(beta2) - (2 * t) / Math.expm1(-t * Math.log(beta2));

  // Eq. 5, in units of 1/sigma^2; infinite up to rho = 4.
  const firstOrderVariance = (rho) => (rho > 4 ? rho / (2 * (rho - 2) * (rho - 4)) : Infinity);

  // Eq. 2, in the same units; infinite up to rho = 2.
  function exactVariance(rho) {
    if (rho <= 2) return Infinity;
    let z = rho / 2 - 1;
    let logShare = 0; // ln(E[psi]^2 / E[psi^2])
    for (; z < 10; z += 1) logShare += Math.log1p(-1 / (2 * z + 1) ** 2);
    logShare += STIRLING.reduce((sum, c) => c + sum / (z * z), 0) / z;
    return (rho / (rho - 2)) * -Math.expm1(logShare);
  }

  // Algorithm 2, line 11, or the same with the exact variance; 0 while the variance is infinite.
  function r(t, beta2, method) {
    const variance = method === "exact" ? exactVariance : firstOrderVariance;
    return Math.sqrt(variance(rhoInf(beta2)) / variance(rho(t, beta2)));
  }

  function isAdaptive(t, beta2, variant) {
    const length = rho(t, beta2);
    return variant.strict ? length > variant.threshold : length >= variant.threshold;
  }

  // The first update that is adaptive; null where no update ever is.
  function firstAdaptive(beta2, variant) {
    if (rhoInf(beta2) <= variant.threshold) return null;
    let t = 1;
    while (!isAdaptive(t, beta2, variant)) t += 1;
    return t;
  }

  // What multiplies Adam's step; 0 before the first adaptive update, whatever is done then.
  const factor = (t, beta2, variant) =>
    isAdaptive(t, beta2, variant) ? r(t, beta2, variant.rectification) : 0;

  const linear = (t, steps) => Math.min(1, t / steps);
  const untunedLinear = (t, beta2) => linear(t, 2 / (1 - beta2));
  const untunedExponential = (t, beta2) => -Math.expm1(-(1 - beta2) * t);

  /* The linear warmups that come closest to a variant's factor f: `nearest`, the number of its
     updates for which the sum over all t of (f(t) - min(1, t / updates))^2 is smallest, and `fair`,
     for which sum(1 - f), the updates withheld, is the same. Null where no update is adaptive. */
  function closestLinear(beta2, variant) {
    if (firstAdaptive(beta2, variant) === null) return null;
    const end = Math.ceil(20 / (1 - beta2)); // there 1 - f has fallen below 1e-7
    const factors = Array.from({ length: end }, (_, i) => factor(i + 1, beta2, variant));
    let rest = factors.reduce((sum, f) => sum + (1 - f) ** 2, 0); // of t >= steps
    let [squares, products] = [0, 0]; // of t < steps: of f^2 and of t f
    let best = { nearest: 1, distance: rest };
    for (let steps = 2; steps <= end; steps += 1) {
      const t = steps - 1;
      const f = factors[t - 1];
      rest -= (1 - f) ** 2;
      squares += f ** 2;
      products += t * f;
      const line = (t * steps * (2 * t + 1)) / 6; // the sum of t^2
      const distance = squares - (2 * products) / steps + line / steps ** 2 + rest;
      if (distance < best.distance) best = { nearest: steps, distance };
    }
    const withheld = factors.reduce((sum, f) => sum + 1 - f, 0);
    return { nearest: best.nearest, withheld, fair: Math.round(2 * withheld + 1) };
  }

  return {
    ...{ rhoInf, rho, r, isAdaptive, firstAdaptive, factor },
    ...{ linear, untunedLinear, untunedExponential, closestLinear },
  };
})();
