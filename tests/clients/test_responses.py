"""The openai package's Responses. FATHOM_URL names the server."""
import os
import unittest

import openai
import pydantic

WEATHER = {"type": "function", "name": "weather", "description": "The weather of a city.", "strict": True,
           "parameters": {"type": "object", "properties": {"city": {"type": "string", "maxLength": 30}},
                          "required": ["city"], "additionalProperties": False}}
SETTINGS = {"model": "smollm2", "temperature": 0, "max_output_tokens": 100}


class Responses(unittest.TestCase):
    def setUp(self):
        self.client = openai.OpenAI(base_url=os.environ["FATHOM_URL"] + "/v1", api_key="none", max_retries=0)

    def test_text(self):
        response = self.client.responses.create(input="What is the capital of France?", **SETTINGS)
        self.assertIn("Paris", response.output_text)
        self.assertEqual(response.status, "completed")

    def test_stream(self):
        with self.client.responses.stream(input=[{"role": "user", "content": "What is the capital of France?"}],
                                          **SETTINGS) as stream:
            text = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
            self.assertEqual(stream.get_final_response().output_text, text)
        self.assertIn("Paris", text)

    def test_parse(self):
        class City(pydantic.BaseModel):
            name: str = pydantic.Field(max_length=20)
            large: bool

        response = self.client.responses.parse(input="Describe Paris.", text_format=City, **SETTINGS)
        self.assertIsInstance(response.output_parsed, City)

    def test_a_function_and_its_result(self):
        asked = {"tools": [WEATHER], "parallel_tool_calls": False, **SETTINGS}
        first = self.client.responses.create(input="Is it warm in Paris?", tool_choice="required", **asked)
        call = first.output[0]
        self.assertEqual((call.type, call.name), ("function_call", "weather"))
        with self.client.responses.stream(input="Is it warm in Paris?", tool_choice="required", **asked) as stream:
            events = {event.type for event in stream}
            self.assertEqual(stream.get_final_response().output[0].arguments, call.arguments)
        self.assertIn("response.function_call_arguments.delta", events)
        answer = self.client.responses.create(
            input=[{"role": "user", "content": "Is it warm in Paris?"}, call.to_dict(),
                   {"type": "function_call_output", "call_id": call.call_id, "output": "21 degrees"}], **asked)
        self.assertGreater(answer.usage.output_tokens, 0)


if __name__ == "__main__":
    unittest.main(verbosity=2)
