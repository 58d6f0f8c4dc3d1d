"""Behaviour cloning: raise the likelihood of the selected answers (expert iteration, ReST, STaR).

loss = sum_i sum_t -log p(y_it | x_i, y_i<t) / sum_i |y_i|: a mean over the batch's learnt
tokens, so that a long answer counts by its length.
"""

import torch
import torch.nn.functional as F
from transformers import PreTrainedModel

from models.learning.trainer import IGNORED, Batch


def cloning_loss(model: PreTrainedModel, batch: Batch) -> torch.Tensor:
    """Negative log-likelihood a learnt token, nats."""
    logits = model(input_ids=batch.input_ids, use_cache=False).logits.float()  # (batch, time, vocabulary)
    return F.cross_entropy(logits.flatten(0, 1), batch.targets.flatten(), ignore_index=IGNORED)
