/** A file of prompts: one per line, as text or as JSON. */
import { CoppiceError } from '../errors.ts'
import type { Message, Prompt } from '../index.ts'

export interface ListedPrompt {
  readonly prompt: Prompt
  /** Where it stands, from 1 on. */
  readonly line: number
}

/**
 * Lines that are JSON objects, with `prompt` or `messages`, where the name ends with .jsonl, or the first line begins
 * with a brace and the name does not end with .txt; else lines that are the prompts. Empty lines are passed over.
 * @param name of the file, for errors
 * @throws CoppiceError INVALID_INPUT
 */
export function parsePrompts(text: string, name: string): readonly ListedPrompt[] {
  const lines = text
    .replace(/^\ufeff/, '')
    .split(/\r?\n/)
    .map((content, i) => ({ content, line: i + 1 }))
    .filter(({ content }) => content.trim() !== '')
  if (lines.length === 0) {
    throw new CoppiceError('INVALID_INPUT', `${name} has no prompts; write one per line, as text or as JSON`)
  }
  const isJson = name.endsWith('.jsonl') || (!name.endsWith('.txt') && lines[0].content.trimStart().startsWith('{'))
  return lines.map(({ content, line }) => ({
    line,
    prompt: isJson ? promptOf(content, `${name}, line ${line}`) : content,
  }))
}

function promptOf(line: string, where: string): Prompt {
  let value: unknown
  try {
    value = JSON.parse(line)
  } catch (cause) {
    throw new CoppiceError('INVALID_INPUT', `${where} is not JSON: ${(cause as Error).message}`, { cause })
  }
  const { prompt, messages } = (value ?? {}) as { prompt?: unknown; messages?: unknown }
  if (typeof prompt === 'string' && messages === undefined) return prompt
  if (prompt === undefined && Array.isArray(messages) && messages.length > 0 && messages.every(isMessage)) {
    return messages
  }
  throw new CoppiceError(
    'INVALID_INPUT',
    `${where} must be an object with either "prompt", a text, or "messages", a list of {"role", "content"}`,
  )
}

const isMessage = (value: unknown): value is Message => {
  const { role, content } = (value ?? {}) as Partial<Message>
  return typeof role === 'string' && typeof content === 'string'
}
