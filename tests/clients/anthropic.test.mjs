// Anthropic's package for Node against /v1/messages. FATHOM_URL names the server.
import assert from 'node:assert/strict';
import test from 'node:test';
import Anthropic from '@anthropic-ai/sdk';

const client = new Anthropic({ baseURL: process.env.FATHOM_URL, apiKey: 'none', maxRetries: 0 });
const settings = {
  model: 'smollm2',
  max_tokens: 20,
  temperature: 0,
  messages: [{ role: 'user', content: 'What is the capital of France?' }],
};

test('message', async () => {
  const message = await client.messages.create(settings);
  assert.match(message.content[0].text, /Paris/);
  assert.equal(message.stop_reason, 'end_turn');
  assert.ok(message.usage.output_tokens > 0);
});

test('stream', async () => {
  const stream = client.messages.stream(settings);
  let text = '';
  stream.on('text', (piece) => (text += piece));
  const message = await stream.finalMessage();
  assert.match(text, /Paris/);
  assert.equal(message.content[0].text, text);
  assert.equal(message.stop_reason, 'end_turn');
});

test('system, several turns and a prefill', async () => {
  const message = await client.messages.create({
    ...settings,
    system: 'You are terse.',
    messages: [...settings.messages, { role: 'assistant', content: 'The capital of France is' }],
  });
  assert.match(message.content[0].text, /Paris/);
});

test('errors', async () => {
  await assert.rejects(client.messages.create({ ...settings, model: 'x' }), Anthropic.NotFoundError);
  await assert.rejects(client.messages.create({ ...settings, temperature: 9 }), Anthropic.BadRequestError);
});

test('a tool, streamed', async () => {
  const stream = client.messages.stream({
    model: 'smollm2', max_tokens: 100, temperature: 0,
    messages: [{ role: 'user', content: 'Is it warm in Paris?' }],
    tools: [{ name: 'weather', description: 'The weather of a city.', input_schema: {
      type: 'object', properties: { city: { type: 'string', maxLength: 30 } }, required: ['city'],
      additionalProperties: false } }],
    tool_choice: { type: 'any', disable_parallel_tool_use: true },
  });
  let json = '';
  stream.on('inputJson', (part) => { json += part; });
  const message = await stream.finalMessage();
  assert.equal(message.stop_reason, 'tool_use');
  const use = message.content.find((block) => block.type === 'tool_use');
  assert.equal(use.name, 'weather');
  assert.deepEqual(use.input, JSON.parse(json));
});
