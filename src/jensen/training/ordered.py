"""DDP whose averages don't depend on how it packs gradients."""

from typing import Any

import torch
from lightning_fabric.strategies.ddp import DDPStrategy
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel


class OrderedDDP(DDPStrategy):
    """DDP that adds up the processes' gradients in the order of their numbers.

    By itself it packs gradients anew after its first step, and the place of a gradient in its pack decides in which
    order more than two processes' terms are added up; a fit that is resumed would differ by rounding. Here every
    process gets all terms, which is more to send: for processors, not for many GPUs.
    """

    def setup_module(self, module: nn.Module) -> DistributedDataParallel:
        """The module in DDP."""
        wrapped = super().setup_module(module)
        wrapped.register_comm_hook(None, _averaged)
        return wrapped


def _averaged(
    _: None,
    bucket: distributed.GradBucket,  # pyright: ignore[reportPrivateImportUsage]
) -> torch.futures.Future[Tensor]:
    """A pack's average over the processes."""
    own = bucket.buffer()
    terms = [torch.empty_like(own) for _ in range(distributed.get_world_size())]
    work: Any = distributed.all_gather(terms, own, async_op=True)

    def average(_: Any) -> Tensor:
        total = terms[0]
        for term in terms[1:]:
            total += term
        return total.div_(len(terms))

    return work.get_future().then(average)
