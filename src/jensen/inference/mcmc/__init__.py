"""Markov chains over a user's log-joint, many in one batch: NUTS, HMC, Metropolis, Gibbs, stochastic gradients."""

from jensen.inference.mcmc.draws import Draws
from jensen.inference.mcmc.gibbs import gibbs, metropolis_within_gibbs
from jensen.inference.mcmc.hmc import hmc
from jensen.inference.mcmc.leapfrog import leapfrog
from jensen.inference.mcmc.metropolis import metropolis
from jensen.inference.mcmc.nuts import nuts
from jensen.inference.mcmc.sghmc import inertial_step, sghmc
from jensen.inference.mcmc.sgld import kept_steps, langevin_step, sgld, step_sizes
from jensen.inference.mcmc.summary import Summary

__all__ = [
    "Draws",
    "Summary",
    "gibbs",
    "hmc",
    "inertial_step",
    "kept_steps",
    "langevin_step",
    "leapfrog",
    "metropolis",
    "metropolis_within_gibbs",
    "nuts",
    "sghmc",
    "sgld",
    "step_sizes",
]
