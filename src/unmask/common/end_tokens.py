"""End-of-text markers of the supported model families."""

from __future__ import annotations

import re

# End-of-text token of both published model families, and end-of-turn tokens of LLaDA's and Dream's chat templates. A
# policy with other tokens translates its own (`Policy.judged`).
END_OF_TEXT = "<|endoftext|>"


END = re.compile(r"<\|endoftext\|>|<\|eot_id\|>|<\|im_end\|>")
