"""Data: readers, known data sets, checks and toy problems with exact answers."""

from jensen.data.arrays import constant_columns, from_array
from jensen.data.binary import binarise
from jensen.data.catalogue import KNOWN, KnownSet, known
from jensen.data.checks import check_matches
from jensen.data.dataset import Dataset, Kind, Schema
from jensen.data.fetching import KnownFile, data_folders
from jensen.data.memory import fits_memory
from jensen.data.moments import Moments, Statistics
from jensen.data.opening import exceeds_memory, stored
from jensen.data.reading import load, read
from jensen.data.stored import Stored
from jensen.data.subsets import split, take
from jensen.data.toys import LinearGaussian, checkerboard, linear_gaussian, pinwheel, two_moons
from jensen.data.writers import write, write_blocks

__all__ = [
    "KNOWN",
    "Dataset",
    "Kind",
    "KnownFile",
    "KnownSet",
    "LinearGaussian",
    "Moments",
    "Schema",
    "Statistics",
    "Stored",
    "binarise",
    "check_matches",
    "checkerboard",
    "constant_columns",
    "data_folders",
    "exceeds_memory",
    "fits_memory",
    "from_array",
    "known",
    "linear_gaussian",
    "load",
    "pinwheel",
    "read",
    "split",
    "stored",
    "take",
    "two_moons",
    "write",
    "write_blocks",
]
