"""The import path of the interface that relspace implements; all of the work is done there."""

from ncut_pytorch._elsewhere import refuse
from ncut_pytorch.ncut import Ncut, kway_ncut, ncut_click_prompt, ncut_fn
from ncut_pytorch.utils.math import cosine_affinity, rbf_affinity
from ncut_pytorch.utils.sigma import find_sigma

__all__ = [
    "Ncut",
    "cosine_affinity",
    "find_sigma",
    "kway_ncut",
    "ncut_click_prompt",
    "ncut_fn",
    "rbf_affinity",
]

__getattr__ = refuse(
    __name__,
    {
        "axis_align": "kway_ncut(eigvec, ret_R=True)",
        "quick_kway": "kway_ncut(eigvec), or relspace.kway for labels",
        "predictor": "relspace.load_model and relspace.extract for features of models",
        "ncuts": "ncut_fn, kway_ncut and ncut_click_prompt of ncut_pytorch",
    },
)
