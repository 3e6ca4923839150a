"""Reruns the experiments of "On the Variance of the Adaptive Learning Rate and Beyond"."""
