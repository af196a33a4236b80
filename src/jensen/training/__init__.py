"""Training: the loop, the device, the state; it knows no model and no folder."""

from jensen.training.averaging import WeightAverage
from jensen.training.batches import ArrayBatches, Batch, Batches, Progress
from jensen.training.engine import Alone, Device, Engine, engine, processes, resolve
from jensen.training.loop import Epoch, Status, Training, Validate
from jensen.training.settings import Settings
from jensen.training.stopping import EarlyStopping
from jensen.training.streams import Blocks, StreamBatches

__all__ = [
    "Alone",
    "ArrayBatches",
    "Batch",
    "Batches",
    "Blocks",
    "Device",
    "EarlyStopping",
    "Engine",
    "Epoch",
    "Progress",
    "Settings",
    "Status",
    "StreamBatches",
    "Training",
    "Validate",
    "WeightAverage",
    "engine",
    "processes",
    "resolve",
]
