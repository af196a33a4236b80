"""Training: the loop, the device, the state; it knows no model and no folder."""

from jensen.training.averaging import WeightAverage
from jensen.training.batches import ArrayBatches, Batch, Progress
from jensen.training.engine import Device, resolve
from jensen.training.loop import Epoch, Training
from jensen.training.settings import Settings
from jensen.training.stopping import EarlyStopping

__all__ = [
    "ArrayBatches",
    "Batch",
    "Device",
    "EarlyStopping",
    "Epoch",
    "Progress",
    "Settings",
    "Training",
    "WeightAverage",
    "resolve",
]
