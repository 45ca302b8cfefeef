// The openai package for Node, as its README uses it. FATHOM_URL names the server.
import assert from 'node:assert/strict';
import test from 'node:test';
import OpenAI from 'openai';

const client = new OpenAI({ baseURL: process.env.FATHOM_URL + '/v1', apiKey: 'none', maxRetries: 0 });
const settings = {
  model: 'smollm2',
  messages: [{ role: 'user', content: 'What is the capital of France?' }],
  temperature: 0,
  max_tokens: 20,
};

test('chat', async () => {
  const answer = await client.chat.completions.create(settings);
  assert.match(answer.choices[0].message.content, /Paris/);
  assert.equal(answer.choices[0].finish_reason, 'stop');
});

test('stream', async () => {
  const stream = await client.chat.completions.create({ ...settings, stream: true });
  let text = '';
  for await (const chunk of stream) text += chunk.choices[0]?.delta?.content ?? '';
  assert.match(text, /Paris/);
});

test('the stream helper gathers a message', async () => {
  const runner = client.chat.completions.stream(settings);
  assert.match(await runner.finalContent(), /Paris/);
});

const weather = { type: 'function', function: { name: 'weather', description: 'The weather of a city.', strict: true,
  parameters: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'],
    additionalProperties: false } } };
const asked = { ...settings, messages: [{ role: 'user', content: 'Is it warm in Paris?' }], max_tokens: 100,
  tools: [weather], tool_choice: { type: 'function', function: { name: 'weather' } } };

test('a tool, streamed or not, and its result', async () => {
  const answer = await client.chat.completions.create(asked);
  const message = answer.choices[0].message;
  assert.equal(answer.choices[0].finish_reason, 'tool_calls');
  assert.equal(message.tool_calls[0].function.name, 'weather');
  assert.equal(typeof JSON.parse(message.tool_calls[0].function.arguments).city, 'string');

  const streamed = await client.chat.completions.stream(asked).finalMessage();
  assert.equal(streamed.tool_calls[0].function.arguments, message.tool_calls[0].function.arguments);

  const after = await client.chat.completions.create({ ...asked, tool_choice: 'none', messages: [...asked.messages,
    message, { role: 'tool', tool_call_id: message.tool_calls[0].id, content: '21 degrees' }] });
  assert.ok(after.choices[0].message.content.length > 0);
});

test('a tool that is run', async () => {
  let city;
  const runner = client.chat.completions.runTools({ ...asked, tools: [{ type: 'function', function: {
    ...weather.function, parse: JSON.parse, function: (args) => { city = args.city; return '21 degrees'; } } }] });
  await runner.done();
  assert.equal(typeof city, 'string');
});

test('an aborted stream ends', async () => {
  const stream = await client.chat.completions.create({ ...settings, stream: true, max_tokens: 200 });
  for await (const chunk of stream) {
    assert.ok(chunk.id);
    stream.controller.abort();
    break;
  }
});

test('models', async () => {
  const ids = [];
  for await (const model of client.models.list()) ids.push(model.id);
  assert.deepEqual(ids, ['smollm2']);
});

test('errors', async () => {
  await assert.rejects(client.chat.completions.create({ ...settings, model: 'gpt-9' }), OpenAI.NotFoundError);
  await assert.rejects(client.chat.completions.create({ ...settings, top_p: 7 }), OpenAI.BadRequestError);
});
