"""XGBoost without scikit-learn, for the processes that only score.

If scikit-learn is installed, XGBoost imports it, and with it pandas, for an interface that is not
used here: 3 s of processor time and 130 MB in every Python worker and in the API (measured with
xgboost-cpu 3.2). Importing this module before `xgboost` avoids both; scikit-learn itself can still
be imported afterwards.
"""

from __future__ import annotations

import sys

if "sklearn" in sys.modules:
    import xgboost
else:
    sys.modules["sklearn"] = None  # type: ignore[assignment]  # makes its import fail
    try:
        import xgboost
    finally:
        del sys.modules["sklearn"]

__all__ = ["xgboost"]
