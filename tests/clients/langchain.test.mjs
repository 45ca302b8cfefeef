// LangChain's DeepSeek model. FATHOM_URL names the server.
import assert from 'node:assert/strict';
import test from 'node:test';
import { ChatDeepSeek } from '@langchain/deepseek';

const model = new ChatDeepSeek({
  model: 'deepseek-chat',
  apiKey: 'none',
  temperature: 0,
  maxTokens: 20,
  maxRetries: 0,
  configuration: { baseURL: process.env.FATHOM_URL + '/v1' },
});
const question = [['system', 'You are terse.'], ['human', 'What is the capital of France?']];

test('invoke', async () => {
  const message = await model.invoke(question);
  assert.match(message.content, /Paris/);
  assert.ok(message.usage_metadata.output_tokens > 0);
});

test('stream', async () => {
  let text = '';
  for await (const chunk of await model.stream(question)) text += chunk.content;
  assert.match(text, /Paris/);
});

test('a bound tool', async () => {
  const weather = {
    type: 'function',
    function: {
      name: 'weather', description: 'The weather of a city.', parameters: {
        type: 'object', properties: { city: { type: 'string', maxLength: 30 } }, required: ['city'],
        additionalProperties: false } } };
  const able = new ChatDeepSeek({
    model: 'deepseek-chat', apiKey: 'none', temperature: 0, maxTokens: 100, maxRetries: 0,
    configuration: { baseURL: process.env.FATHOM_URL + '/v1' } }).bindTools([weather], {
    tool_choice: 'weather' });
  const message = await able.invoke('Is it warm in Paris?');
  assert.equal(message.tool_calls[0].name, 'weather');
  assert.equal(typeof message.tool_calls[0].args.city, 'string');
});
