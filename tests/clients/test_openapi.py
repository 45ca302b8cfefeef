"""The server's own description, read by OpenAPI's and JSON Schema's validators. FATHOM_URL names the server."""
import json
import os
import unittest
import urllib.error
import urllib.request

import jsonschema
import openapi_spec_validator
import referencing

URL = os.environ["FATHOM_URL"]
HELLO = [{"role": "user", "content": "Hello"}]


def ask(path, body=None):
    """Status, type, text."""
    request = urllib.request.Request(URL + path, headers={"Content-Type": "application/json"},
                                     data=None if body is None else json.dumps(body).encode())
    try:
        reply = urllib.request.urlopen(request)
    except urllib.error.HTTPError as error:
        reply = error
    with reply:
        return reply.status, reply.headers["Content-Type"].split(";")[0], reply.read().decode()


class OpenApi(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.document = json.loads(ask("/openapi.json")[2])
        resource = referencing.Resource.from_contents(cls.document, referencing.jsonschema.DRAFT202012)
        cls.registry = referencing.Registry().with_resource("urn:openapi", resource)

    def resolve(self, node):
        while "$ref" in node:
            name = node["$ref"].removeprefix("#/").split("/")
            node = self.document
            for part in name:
                node = node[part]
        return node

    def check(self, schema, value):
        where = {"$id": "urn:openapi-part", **json.loads(json.dumps(schema).replace('"#/', '"urn:openapi#/'))}
        jsonschema.Draft202012Validator(where, registry=self.registry).validate(value)

    def exchange(self, path, body=None):
        status, kind, text = ask(path, body)
        operation = self.document["paths"][path]["get" if body is None else "post"]
        media = self.resolve(operation["responses"][str(status)])["content"][kind]
        if status == 200 and body is not None:
            self.check(self.resolve(operation["requestBody"])["content"]["application/json"]["schema"], body)
        if kind == "application/json":
            self.check(media["schema"], json.loads(text))
        if kind == "text/event-stream":
            lines = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
            end = media["x-events"].get("end")
            if end is not None:
                self.assertEqual(lines.pop(), end)
            self.assertGreater(len(lines), 1)
            for line in lines:
                self.check(media["x-events"]["data"], json.loads(line))
        return status

    def test_it_is_openapi_3_1(self):
        self.assertEqual(self.document["openapi"].rsplit(".", 1)[0], "3.1")
        openapi_spec_validator.validate(self.document)
        self.assertEqual(self.document["servers"], [{"url": URL}])

    def test_answers_are_as_it_says(self):
        for path in ("/health", "/ready", "/v1/models", "/user/balance", "/openapi.json"):
            self.assertEqual(self.exchange(path), 200)
        for path, body in (
                ("/v1/chat/completions", {"messages": HELLO, "max_tokens": 5, "logprobs": True, "top_logprobs": 2}),
                ("/v1/completions", {"prompt": "One, two,", "max_tokens": 5, "logprobs": 2}),
                ("/v1/messages", {"messages": HELLO, "max_tokens": 5}),
                ("/v1/responses", {"input": "Hello", "max_output_tokens": 20})):
            for stream in (False, True):
                self.assertEqual(self.exchange(path, {**body, "stream": stream}), 200)
            self.assertEqual(self.exchange(path, {}), 422)
            self.assertEqual(self.exchange(path, {**body, "temperature": 9}), 400)
            self.assertEqual(self.exchange(path, {**body, "model": "gpt-9"}), 404)

    def test_other_answers_are_not(self):
        with self.assertRaises(jsonschema.ValidationError):
            self.check({"$ref": "#/components/schemas/Health"}, {"status": "ok", "more": 1})


if __name__ == "__main__":
    unittest.main(verbosity=2)
