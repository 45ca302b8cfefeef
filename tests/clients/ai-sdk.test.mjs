// Vercel's AI SDK with its DeepSeek provider. FATHOM_URL names the server.
import assert from 'node:assert/strict';
import test from 'node:test';
import { createDeepSeek } from '@ai-sdk/deepseek';
import { generateText, jsonSchema, Output, streamText, tool } from 'ai';

const deepseek = createDeepSeek({ baseURL: process.env.FATHOM_URL, apiKey: 'none' });
const settings = {
  model: deepseek('deepseek-chat'),
  prompt: 'What is the capital of France?',
  temperature: 0,
  maxOutputTokens: 20,
  maxRetries: 0,
};

test('text', async () => {
  const { text, finishReason, usage } = await generateText(settings);
  assert.match(text, /Paris/);
  assert.equal(finishReason, 'stop');
  assert.ok(usage.outputTokens > 0);
});

test('stream', async () => {
  const { textStream, usage } = streamText(settings);
  let text = '';
  for await (const piece of textStream) text += piece;
  assert.match(text, /Paris/);
  assert.ok((await usage).inputTokens > 0);
});

test('an object, by JSON mode', async () => {
  const { output } = await generateText({
    ...settings,
    prompt: 'Say in JSON {"capital": ...} what the capital of France is.',
    maxOutputTokens: 60,
    output: Output.object({ schema: jsonSchema({
      type: 'object', properties: { capital: { type: 'string' } }, additionalProperties: true }) }),
  });
  assert.equal(typeof output, 'object');
});

test('a tool', async () => {
  const weather = tool({
    description: 'The weather of a city.',
    inputSchema: jsonSchema({
      type: 'object', properties: { city: { type: 'string', maxLength: 30 } }, required: ['city'],
      additionalProperties: false }),
  });
  const { toolCalls, finishReason } = await generateText({
    ...settings, prompt: 'Is it warm in Paris?', maxOutputTokens: 100, tools: { weather }, toolChoice: {
      type: 'tool', toolName: 'weather' } });
  assert.equal(finishReason, 'tool-calls');
  assert.equal(toolCalls[0].toolName, 'weather');
  assert.equal(typeof toolCalls[0].input.city, 'string');
});
