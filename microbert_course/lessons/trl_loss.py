"""The loss of trl's GRPOTrainer on given tensors: a reference for lesson 23 and for tests, where trl is installed."""

from collections import defaultdict
from types import SimpleNamespace

import torch


def trl_loss(
    logprobs: torch.Tensor, old_logprobs: torch.Tensor, ref_logprobs: torch.Tensor, advantages: torch.Tensor, mask: torch.Tensor,  # all (completions, new) but advantages
    clip_epsilon: float, clip_epsilon_high: float, kl_coef: float, loss: str, max_new_tokens: int,
) -> torch.Tensor:
    "`GRPOTrainer._compute_loss` of trl, from a trainer that has nothing but what this method asks for; its model answers these log-probabilities."
    from trl.trainer.grpo_trainer import GRPOTrainer

    accelerator = SimpleNamespace(num_processes=1, gather=lambda tensor: tensor, reduce=lambda tensor, reduction: tensor)
    trainer = SimpleNamespace(
        _get_per_token_logps_and_entropies=lambda *args, **kwargs: (logprobs, torch.zeros_like(logprobs), None), aux_loss_enabled=False,
        top_entropy_quantile=1.0, off_policy_mask_threshold=None, importance_sampling_level="token", beta=kl_coef, loss_type=loss, epsilon_low=clip_epsilon,
        epsilon_high=clip_epsilon_high, use_vllm=False, args=SimpleNamespace(delta=None, use_bias_correction_kl=False, steps_per_generation=1),
        model=SimpleNamespace(training=True), accelerator=accelerator, current_gradient_accumulation_steps=1, max_completion_length=max_new_tokens,
        _entropy_bonus_enabled=False, _metrics=defaultdict(lambda: defaultdict(list)))
    prompt, tokens = torch.ones(len(mask), 2, dtype=torch.long), mask.long()
    return GRPOTrainer._compute_loss(trainer, None, {
        "prompt_ids": prompt, "prompt_mask": prompt, "completion_ids": tokens, "completion_mask": tokens, "advantages": advantages,
        "old_per_token_logps": old_logprobs, "ref_per_token_logps": ref_logprobs, "num_items_in_batch": tokens.sum()})
