"""Loggers: watchers that write a fit's numbers for other programs to show."""

from jensen.registry import Registry
from jensen.runs.loggers.logger import Logger
from jensen.runs.loggers.mlflow import MLflow
from jensen.runs.loggers.tensorboard import TensorBoard

LOGGERS: Registry[type[Logger]] = Registry("logger", {"tensorboard": TensorBoard, "mlflow": MLflow})
"""Loggers by name, as ``jensen fit --log NAME`` takes them."""

__all__ = ["LOGGERS", "Logger", "MLflow", "TensorBoard"]
