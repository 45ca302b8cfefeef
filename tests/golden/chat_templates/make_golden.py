"""Makes expected.json and snippets.json from templates/*.jinja: what jinja2 says, as Hugging Face
transformers configures it. Versions that made the committed files stand in README.md.

    python make_golden.py
"""

import datetime
import json
import pathlib

from transformers.utils import chat_template_utils

from snippets import SNIPPETS, SNIPPET_INPUTS

HERE = pathlib.Path(__file__).parent
NOW = "2026-11-21 19:24:05"


class FixedClock(datetime.datetime):
    """strftime_now reads this clock, so that the goldens do not age."""

    @classmethod
    def now(cls, tz=None):
        return cls.fromisoformat(NOW)


chat_template_utils.datetime = FixedClock

USER = {"role": "user", "content": 'Hello, world! \u00e9\u4f60\u597d <b>"q"</b>\n'}
SYSTEM = {"role": "system", "content": "You are helpful.\n  Be brief."}
ANSWER = {"role": "assistant", "content": "Hi there.  "}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": 'Weather "now" <b>& later</b>',
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string", "description": "The city"},
                    "unit": {"type": "string", "enum": ["c", "f"], "default": "c"},
                    "days": {"type": "array", "items": {"type": "integer"}},
                    "note": {"type": ["string", "null"]},
                },
                "required": ["city"],
            },
            "return": {"type": "string", "description": "text"},
        },
    },
    {
        "type": "function",
        "function": {
            "name": "now",
            "description": "Time",
            "parameters": {"type": "object", "properties": {}},
        },
    },
]


def call(arguments, call_id="abcdef123"):
    return {"id": call_id, "type": "function", "function": {"name": "get_weather", "arguments": arguments}}


def result(content, call_id="abcdef123"):
    return {"role": "tool", "tool_call_id": call_id, "name": "get_weather", "content": content}


def user(text):
    return {"role": "user", "content": text}


# name: (messages, further inputs)
CASES = {
    "user": ([USER], {}),
    "no_prompt": ([SYSTEM, USER], {"add_generation_prompt": False}),
    "multi_turn": ([SYSTEM, USER, ANSWER, user("  And now? ")], {}),
    "thought_inline": (
        [USER, {"role": "assistant", "content": "<think>\nhmm\n</think>\n\nAnswer"}, user("third")],
        {},
    ),
    "reasoning": (
        [
            USER,
            {"role": "assistant", "content": "Paris.", "reasoning_content": "Let me think.\nFrance."},
            user("sure?"),
            {"role": "assistant", "content": "Yes", "reasoning_content": " again "},
        ],
        {"add_generation_prompt": False},
    ),
    "no_thinking": ([USER], {"enable_thinking": False, "thinking": False}),
    "thinking": ([SYSTEM, USER], {"enable_thinking": True, "thinking": True, "reasoning_effort": "high"}),
    "tools": ([SYSTEM, USER], {"tools": TOOLS}),
    "tool_result": (
        [
            USER,
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [call({"city": "Paris", "days": [1, 2], "f": 1.5, "n": None, "b": True})],
            },
            result('{"t": 21}'),
        ],
        {"tools": TOOLS},
    ),
    "tool_text_arguments": (
        [
            USER,
            {"role": "assistant", "content": None, "tool_calls": [call('{"city": "Paris"}')]},
            result("21 C"),
            {"role": "assistant", "content": "It is 21."},
            user("thanks"),
        ],
        {},
    ),
    "two_tools": (
        [
            SYSTEM,
            USER,
            {
                "role": "assistant",
                "content": "Calling",
                "reasoning_content": "need tools",
                "tool_calls": [call({"city": "A"}), call({"city": "B"}, "ghijkl456")],
            },
            result("1"),
            result("2", "ghijkl456"),
        ],
        {"tools": TOOLS},
    ),
    "parts": (
        [{"role": "user", "content": [{"type": "text", "text": "Look"}, {"type": "image"}]}],
        {},
    ),
    "two_users": ([USER, USER], {}),
    "unknown_role": ([{"role": "alien", "content": "zz"}], {}),
}


def inputs_of(messages, further):
    inputs = {
        "messages": messages,
        "tools": None,
        "documents": None,
        "add_generation_prompt": True,
        "bos_token": "<s>",
        "eos_token": "</s>",
    }
    inputs.update(further)
    return inputs


def render(source, inputs):
    """The text; or, as an object, the words of raise_exception or merely that there was an error."""
    try:
        return chat_template_utils._compile_jinja_template(source).render(**inputs)
    except Exception as error:  # noqa: BLE001: every error is an expected outcome here
        if type(error).__name__ == "TemplateError":
            return {"raised": str(error)}
        return {"error": type(error).__name__}


def write(name, value):
    text = json.dumps(value, ensure_ascii=False, indent=0)
    (HERE / name).write_text(text + "\n", encoding="utf-8")


def main():
    cases = {name: inputs_of(*case) for name, case in CASES.items()}
    expected = {}
    for path in sorted((HERE / "templates").glob("*.jinja")):
        source = path.read_bytes().decode()
        expected[path.stem] = {name: render(source, inputs) for name, inputs in cases.items()}
    write("expected.json", {"now": NOW, "cases": cases, "expected": expected})
    write(
        "snippets.json",
        {"inputs": SNIPPET_INPUTS, "snippets": [[s, render(s, SNIPPET_INPUTS)] for s in SNIPPETS]},
    )


if __name__ == "__main__":
    main()
