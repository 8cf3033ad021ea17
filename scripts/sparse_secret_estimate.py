#!/usr/bin/env python3
"""What attacks on the encapsulation key cost: the table behind docs/decisions/0014-sparse-secret.md.

Needs Sage and github.com/malb/lattice-estimator in PYTHONPATH. Prints a line for each ring, modulus and attack;
minutes to an hour for each.

    sage -python scripts/sparse_secret_estimate.py --log-n 13 14 15 16 17 --log-q 100 120
"""
import argparse
import time

from estimator import LWE, ND
from estimator.lwe_dual import dual_hybrid
from estimator.lwe_parameters import LWEParameters
from sage.all import log

ATTACKS = {
    "primal hybrid": lambda p: LWE.primal_hybrid(p, mitm=False, babai=False),
    "primal hybrid, meet in the middle": lambda p: LWE.primal_hybrid(p, mitm=True, babai=True),
    "dual hybrid": LWE.dual_hybrid,
    "dual hybrid, meet in the middle": lambda p: dual_hybrid(p, mitm_optimization="analytical"),
}


def key(log_n, log_q, weight):
    """LWE of the key: ternary secret of this weight, errors of standard deviation 3.2."""
    n = 2**log_n
    secret = ND.SparseTernary(weight // 2, weight - weight // 2, n)
    return LWEParameters(n=n, q=2**log_q, Xs=secret, Xe=ND.DiscreteGaussian(3.2), m=2 * n)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--log-n", type=int, nargs="+", default=[13, 14, 15, 16, 17])
    parser.add_argument("--log-q", type=int, nargs="+", default=[100])
    parser.add_argument("--weight", type=int, default=32)
    parser.add_argument("--attack", choices=sorted(ATTACKS), nargs="+", default=list(ATTACKS))
    options = parser.parse_args()
    for log_n in options.log_n:
        for log_q in options.log_q:
            for name in options.attack:
                start = time.time()
                cost = ATTACKS[name](key(log_n, log_q, options.weight))["rop"]
                bits = f"2^{float(log(cost, 2)):.1f}"
                print(f"N = 2^{log_n}, log q = {log_q}, h = {options.weight}: {name} {bits} "
                      f"({time.time() - start:.0f} s)", flush=True)


main()
