"""litellm with its DeepSeek and OpenAI providers. FATHOM_URL names the server."""
import json
import os
import unittest

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # asks nobody for prices
import litellm  # noqa: E402

SETTINGS = {
    "api_key": "none",
    "messages": [{"role": "user", "content": "What is the capital of France?"}],
    "temperature": 0,
    "max_tokens": 20,
    "num_retries": 0,
}
URL = os.environ["FATHOM_URL"]


class LiteLlm(unittest.TestCase):
    def test_deepseek(self):
        answer = litellm.completion(model="deepseek/deepseek-chat", api_base=URL, **SETTINGS)
        self.assertIn("Paris", answer.choices[0].message.content)
        self.assertGreater(answer.usage.completion_tokens, 0)

    def test_openai_stream(self):
        chunks = litellm.completion(model="openai/smollm2", api_base=URL + "/v1", stream=True, **SETTINGS)
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        self.assertIn("Paris", text)

    def test_a_tool(self):
        tool = {"type": "function", "function": {
            "name": "weather", "description": "The weather of a city.",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"],
                           "additionalProperties": False}}}
        asked = {**SETTINGS, "messages": [{"role": "user", "content": "Is it warm in Paris?"}], "max_tokens": 100,
                 "tools": [tool], "tool_choice": {"type": "function", "function": {"name": "weather"}}}
        answer = litellm.completion(model="openai/smollm2", api_base=URL + "/v1", **asked)
        self.assertEqual(answer.choices[0].finish_reason, "tool_calls")
        call = answer.choices[0].message.tool_calls[0].function
        self.assertEqual(call.name, "weather")
        self.assertIsInstance(json.loads(call.arguments)["city"], str)
        chunks = list(litellm.completion(model="openai/smollm2", api_base=URL + "/v1", stream=True, **asked))
        whole = litellm.stream_chunk_builder(chunks)
        self.assertEqual(whole.choices[0].message.tool_calls[0].function.arguments, call.arguments)

    def test_errors(self):
        with self.assertRaises(litellm.NotFoundError):
            litellm.completion(model="openai/gpt-9", api_base=URL + "/v1", **SETTINGS)


if __name__ == "__main__":
    unittest.main(verbosity=2)
