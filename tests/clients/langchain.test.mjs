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
