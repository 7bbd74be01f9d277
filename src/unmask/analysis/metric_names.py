"""Names of metrics that the analysis computes itself. Imported by the workflow's controller: no scipy."""

from __future__ import annotations

# Of a training run (collapses.py): 1 in all rows of a run that collapsed; 1 from the update on at which it did.
COLLAPSED = "collapsed"
COLLAPSED_TIME = "collapsed_time"
# Of several samples of a problem (diversity.py).
DISTINCT = "distinct_right"
PAIRS = "distinct_pairs"
ENTROPY = "solution_entropy"
# Of a run evaluated at several moments (selection.py).
GAIN = "selection_gain"
