"""Run tasks of the lm-evaluation-harness on a policy: its own command line, with the model `unmask` registered.

python src/run_lm_eval.py run --model unmask --model_args model=…/weights,checkpoint=…/adapter,length=256 --tasks gsm8k

Needs `pip install -e '.[lm-eval]'`; all options are the harness's own (docs/evaluate_checkpoints.md).
"""

import importlib.util

from unmask.common.errors import InputError, run_step


def main() -> None:
    """Register the model, then hand over to the harness. Raises InputError if the harness is not installed."""
    if importlib.util.find_spec("lm_eval") is None:
        raise InputError("lm-evaluation-harness is not installed: pip install -e '.[lm-eval]'")
    from lm_eval.__main__ import cli_evaluate

    import unmask.evaluation.lm_harness  # noqa: F401 (registers the model under its name)

    cli_evaluate()


if __name__ == "__main__":
    run_step(main)
