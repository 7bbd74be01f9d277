"""Every method and variant with settings for tests: numbers whose losses can be worked out by hand."""

import math
from dataclasses import replace

from unmask.common.seeding import Seeds
from unmask.methods.coupled_grpo import CoupledGrpo
from unmask.methods.diffpo import Diffpo
from unmask.methods.diffu_grpo import DiffuGrpo
from unmask.methods.dmpo import Dmpo
from unmask.methods.egspo import Egspo
from unmask.methods.espo import Espo
from unmask.methods.gdpo import Gdpo
from unmask.methods.gdsd import Gdsd
from unmask.methods.just_grpo import JustGrpo
from unmask.methods.sft import Sft
from unmask.methods.spg import Spg
from unmask.methods.stable_drl import StableDrl
from unmask.methods.wd1 import Wd1

SEEDS = Seeds((0,))
DMPO = Dmpo(
    alpha=1 / math.log(3), eta=2.0, coefficient=1.0, ess_target=0.0, loss_kind="wdce", baseline="none",
    baseline_strength=1.0, wddo_beta=1.0, wddo_negative=1.0, likelihood="elbo", masks="uniform", elbo_copies=4,
    copies=4, micro_batch_rows=0,
)  # fmt: skip
DIFFU = DiffuGrpo(clip=0.2, kl_penalty=0.0, prompt_mask=0.15, mask_index="update", micro_steps=2, micro_batch_rows=0)
COUPLED = CoupledGrpo(
    clip=0.2, kl_penalty=0.0, mask_rate="response", mask_index="update", micro_steps=2, micro_batch_rows=0
)
DIFFPO = Diffpo(
    clip=0.2, kl_penalty=0.0, surrogate="two_stage", importance_sampling=True, clamp=1.5,
    learn="model", sigma=0.5, speed_reward=0.5,
)  # fmt: skip
ESPO = Espo(
    clip=0.2, kl_penalty=0.0, divergence="k2", copies=4, levels="stratified", ratio="sequence", normalise=True,
    micro_batch_rows=0,
)  # fmt: skip
WD1 = Wd1(psi=1.0, negative=True, prompt_mask=0.15, micro_batch_rows=0)
GDPO = Gdpo(clip=0.2, kl_penalty=0.0, nodes=2)
SPG = Spg(power=1.5, mix=0.5, negatives=True, copies=2, masks="block", block=2, perturbed=0.15, micro_batch_rows=0)
STABLE_DRL = StableDrl(clamp=5.0, power=1.5, mix=0.5, copies=2, block=2, perturbed=0.15)
GDSD = Gdsd(psi=1.0, clamp=0.0, kl_penalty=0.0, copies=4, fit="response", weighted=True)
JUST = JustGrpo(clip=0.2, positions=0, micro_steps=1)
EGSPO = Egspo(
    surrogate="steps", states=3, states_per_update=0, choice="entropy", cut="equal", stepwise=0.0, clip=0.2,
    clip_above=0.5, kl_penalty=0.0, kl_to="reference", average="tokens", normalise_advantage=False,
)  # fmt: skip
MERGE = replace(EGSPO, surrogate="merge", states=2, clip_above=0.2)
BASELINES = ("none", "group", "individual", "model")
RL = {
    **{f"dmpo-{name}": replace(DMPO, baseline=name) for name in BASELINES},
    "dmpo-wddo": replace(DMPO, loss_kind="wddo"),
    "dmpo-reward_only": replace(DMPO, loss_kind="reward_only"),
    "dmpo-alpha_0": replace(DMPO, alpha=0.0),
    "dmpo-micro_batches": replace(DMPO, micro_batch_rows=5),
    "dmpo-trajectory": replace(DMPO, likelihood="trajectory"),
    "dmpo-mask_order": replace(DMPO, masks="confidence"),
    "diffu_grpo": DIFFU,
    "diffu_grpo-micro_batches": replace(DIFFU, mask_index="micro_step", micro_batch_rows=5),
    "coupled_grpo": COUPLED,
    "coupled_grpo-micro_batches": replace(
        COUPLED, mask_rate="micro_batch", mask_index="micro_step", micro_batch_rows=5
    ),
    "diffpo": DIFFPO,
    "diffpo-mean_field": replace(DIFFPO, surrogate="mean_field"),
    "diffpo-plain": replace(DIFFPO, importance_sampling=False),
    "espo": ESPO,
    "espo-penalty": replace(ESPO, kl_penalty=0.01),
    "espo-k3": replace(ESPO, kl_penalty=0.01, divergence="k3"),
    "espo-token": replace(ESPO, ratio="token", levels="uniform"),
    "espo-sum": replace(ESPO, normalise=False, micro_batch_rows=5),
    "wd1": WD1,
    "wd1-positive": replace(WD1, negative=False),
    "wd1-micro_batches": replace(WD1, micro_batch_rows=5),
    "gdpo": GDPO,
    "gdpo-penalty": replace(GDPO, kl_penalty=0.01),
    "gdpo-uniform": replace(GDPO, levels="uniform"),
    "spg": SPG,
    "spg-eubo": replace(SPG, mix=1.0),
    "spg-uniform": replace(SPG, masks="uniform"),
    "spg-micro_batches": replace(SPG, micro_batch_rows=5),
    "spg-micro_steps": replace(SPG, mask_index="micro_step", micro_steps=4),
    "stable_drl": STABLE_DRL,
    "gdsd": GDSD,
    "gdsd-released": replace(GDSD, psi=10.0, clamp=4e-4, kl_penalty=1e-3, fit="pair", weighted=False),
    "gdsd-unweighted": replace(GDSD, weighted=False),
    "egspo": EGSPO,
    "egspo-shares": replace(EGSPO, states=4, states_per_update=2, choice="uniform"),
    "egspo-random": replace(EGSPO, choice="random", kl_penalty=0.1),
    "egspo-merge": MERGE,
    "egspo-merge-random": replace(MERGE, cut="random", kl_penalty=0.1),
    "egspo-merge-sampler": replace(MERGE, average="states", normalise_advantage=True, kl_penalty=0.1, kl_to="sampler"),
    "egspo-merge-exact": replace(MERGE, states=0),
    "just_grpo": JUST,
    "just_grpo-positions": replace(JUST, positions=2),
    "just_grpo-micro_steps": replace(JUST, micro_steps=2),
}
LOSSES = {**RL, "sft": Sft(right_share=1.0)}
