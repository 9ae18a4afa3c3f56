"""XGBoost without scikit-learn, for the processes that only score.

XGBoost imports scikit-learn where it is installed, with pandas behind it, for an interface that we
do not use: 3 s of processor time and 130 MB in every Python worker and in the API (measured with
xgboost-cpu 3.2). Whoever imports this before `xgboost` is spared that; scikit-learn itself can
still be imported afterwards.
"""

from __future__ import annotations

import sys

if "sklearn" in sys.modules:
    import xgboost
else:
    sys.modules["sklearn"] = None  # type: ignore[assignment]  # Python's way to say: not there
    try:
        import xgboost
    finally:
        del sys.modules["sklearn"]

__all__ = ["xgboost"]
