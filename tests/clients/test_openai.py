"""The openai package for Python, as its README uses it. FATHOM_URL names the server."""
import asyncio
import enum
import json
import os
import typing
import unittest

import openai
import pydantic

URL = os.environ["FATHOM_URL"] + "/v1"
CAPITAL = [{"role": "user", "content": "What is the capital of France?"}]


class OpenAI(unittest.TestCase):
    def setUp(self):
        self.client = openai.OpenAI(base_url=URL, api_key="none", max_retries=0)

    def test_models(self):
        models = list(self.client.models.list())
        self.assertEqual([model.id for model in models], ["smollm2"])

    def test_chat(self):
        answer = self.client.chat.completions.create(model="smollm2", messages=CAPITAL, temperature=0, max_tokens=20)
        self.assertIn("Paris", answer.choices[0].message.content)
        self.assertEqual(answer.choices[0].finish_reason, "stop")
        self.assertEqual(answer.usage.total_tokens, answer.usage.prompt_tokens + answer.usage.completion_tokens)

    def test_stream_gives_the_same_text(self):
        settings = {"model": "deepseek-chat", "messages": CAPITAL, "temperature": 0, "max_tokens": 20}
        whole = self.client.chat.completions.create(**settings).choices[0].message.content
        chunks = list(self.client.chat.completions.create(stream=True, stream_options={"include_usage": True}, **settings))
        text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        self.assertEqual(text, whole)
        self.assertEqual(chunks[0].choices[0].delta.role, "assistant")
        self.assertGreater(chunks[-1].usage.completion_tokens, 0)

    def test_the_seed_decides(self):
        def ask(seed):
            return self.client.chat.completions.create(
                model="smollm2", messages=CAPITAL, temperature=1.5, max_tokens=16, seed=seed).choices[0].message.content
        self.assertEqual(ask(7), ask(7))
        self.assertGreater(len({ask(seed) for seed in range(4)}), 1)

    def test_logprobs(self):
        answer = self.client.chat.completions.create(
            model="smollm2", messages=CAPITAL, temperature=0, max_tokens=3, logprobs=True, top_logprobs=2)
        content = answer.choices[0].logprobs.content
        self.assertEqual(len(content), 3)
        for token in content:
            self.assertLessEqual(token.logprob, 0)
            self.assertEqual(len(token.top_logprobs), 2)
            self.assertEqual(bytes(token.bytes).decode(), token.token)

    def test_several_choices(self):
        answer = self.client.chat.completions.create(model="smollm2", messages=CAPITAL, n=2, seed=1, max_tokens=5)
        self.assertEqual([choice.index for choice in answer.choices], [0, 1])

    def test_text_completion(self):
        answer = self.client.completions.create(model="smollm2", prompt="1, 2, 3, 4,", temperature=0, max_tokens=4)
        self.assertIn("5", answer.choices[0].text)

    def test_parse_gives_an_instance_of_the_class(self):
        class Mood(enum.Enum):
            happy = "happy"
            sad = "sad"

        class Person(pydantic.BaseModel):
            name: str = pydantic.Field(max_length=20)
            age: int = pydantic.Field(ge=0, le=120)
            mood: Mood
            friends: list[str] = pydantic.Field(max_length=2)
            employer: str | None

        answer = self.client.chat.completions.parse(
            model="smollm2", messages=[{"role": "user", "content": "Describe Ada, 36."}], response_format=Person,
            temperature=0, max_tokens=200)
        self.assertEqual(answer.choices[0].finish_reason, "stop")
        self.assertIsInstance(answer.choices[0].message.parsed, Person)

    def test_a_required_tool_is_called_with_valid_arguments(self):
        class GetWeather(pydantic.BaseModel):
            """The weather of a city."""
            city: str = pydantic.Field(max_length=30)
            unit: typing.Literal["C", "F"]

        asked = {"model": "smollm2", "messages": [{"role": "user", "content": "Is it warm in Paris?"}],
                 "tools": [openai.pydantic_function_tool(GetWeather)], "tool_choice": "required",
                 "parallel_tool_calls": False, "temperature": 0, "max_tokens": 200}
        choice = self.client.chat.completions.parse(**asked).choices[0]
        self.assertEqual(choice.finish_reason, "tool_calls")
        call = choice.message.tool_calls[0]
        self.assertIsInstance(call.function.parsed_arguments, GetWeather)
        with self.client.chat.completions.stream(**asked) as stream:
            events = [event.type for event in stream]
            self.assertIn("tool_calls.function.arguments.delta", events)
            streamed = stream.get_final_completion().choices[0].message.tool_calls[0]
        self.assertEqual(streamed.function.arguments, call.function.arguments)
        # The result goes back, and the model answers in words.
        answer = self.client.chat.completions.create(
            model="smollm2", tools=asked["tools"], temperature=0, max_tokens=60, messages=[
                *asked["messages"], choice.message.to_dict(),
                {"role": "tool", "tool_call_id": call.id, "content": "21 degrees"}])
        self.assertGreater(answer.usage.completion_tokens, 0)

    def test_json_mode(self):
        answer = self.client.chat.completions.create(
            model="smollm2", messages=[{"role": "user", "content": "Paris as JSON, short."}],
            response_format={"type": "json_object"}, temperature=0, max_tokens=400)
        if answer.choices[0].finish_reason == "stop":
            self.assertIsInstance(json.loads(answer.choices[0].message.content), dict)

    def test_a_client_that_stops_reading_a_stream(self):
        with self.client.chat.completions.create(
                model="smollm2", messages=CAPITAL, stream=True, max_tokens=200) as stream:
            next(iter(stream))

    def test_errors_have_their_classes(self):
        create = self.client.chat.completions.create
        with self.assertRaises(openai.NotFoundError) as caught:
            create(model="gpt-9", messages=CAPITAL)
        self.assertEqual(caught.exception.code, "model_not_found")
        with self.assertRaises(openai.BadRequestError) as caught:
            create(model="smollm2", messages=CAPITAL, temperature=9)
        self.assertEqual(caught.exception.param, "temperature")
        with self.assertRaises(openai.UnprocessableEntityError):
            create(model="smollm2", messages=[{"role": "user", "content": 7}])

    def test_many_at_once(self):
        async def ask_all():
            client = openai.AsyncOpenAI(base_url=URL, api_key="none", max_retries=0)
            return await asyncio.gather(*[
                client.chat.completions.create(model="smollm2", messages=CAPITAL, temperature=0, max_tokens=8)
                for _ in range(8)])
        answers = {answer.choices[0].message.content for answer in asyncio.run(ask_all())}
        self.assertEqual(len(answers), 1)


if __name__ == "__main__":
    unittest.main(verbosity=2)
