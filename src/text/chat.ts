/** Conversations as prompts, by the model's own chat template (Jinja, as Hugging Face renders it). */
import { Template } from '@huggingface/jinja'
import { CoppiceError } from '../errors.ts'

export interface Message {
  readonly role: string
  readonly content: string
}

export class ChatTemplate {
  readonly #template: Template
  readonly #variables: Record<string, unknown>
  readonly #directory: string

  /**
   * @param file content of chat_template.jinja, which wins over the config
   * @param config tokenizer_config.json
   * @throws CoppiceError NO_CHAT_TEMPLATE | UNSUPPORTED_FORMAT
   */
  constructor(file: string | undefined, config: Record<string, unknown>, directory: string) {
    const source = file ?? templateIn(config.chat_template)
    if (source === undefined) {
      throw new CoppiceError(
        'NO_CHAT_TEMPLATE',
        `the model in ${directory} has no chat template; give the prompt as text or tokens`,
      )
    }
    try {
      this.#template = new Template(source)
    } catch (cause) {
      const reason = cause instanceof Error ? cause.message : String(cause)
      throw new CoppiceError('UNSUPPORTED_FORMAT', `the chat template in ${directory} cannot be read: ${reason}`, {
        cause,
      })
    }
    this.#directory = directory
    // Hugging Face hands every special token to the template under its name.
    this.#variables = {}
    for (const name of ['bos_token', 'eos_token', 'unk_token', 'pad_token']) {
      const value = config[name]
      if (typeof value === 'string') this.#variables[name] = value
      else if (typeof value === 'object' && value !== null && 'content' in value) this.#variables[name] = value.content
    }
  }

  /** The prompt up to where the assistant's answer begins. @throws CoppiceError INVALID_INPUT */
  render(messages: readonly Message[]): string {
    messages.forEach((message, i) => {
      if (typeof message?.role !== 'string' || typeof message.content !== 'string') {
        throw new CoppiceError('INVALID_INPUT', `message ${i} must be { role: string, content: string }`)
      }
    })
    try {
      return this.#template.render({
        ...this.#variables,
        messages,
        add_generation_prompt: true,
        tools: null,
        documents: null,
        raise_exception: (reason: string): never => {
          throw new Error(reason)
        },
        strftime_now: (format: string): string => formatDate(new Date(), format),
      })
    } catch (cause) {
      const reason = cause instanceof Error ? cause.message : String(cause)
      throw new CoppiceError('INVALID_INPUT', `the chat template in ${this.#directory} refuses these messages: ${reason}`, {
        cause,
      })
    }
  }
}

/** A string, or the entry called 'default' of a list of named templates. */
function templateIn(value: unknown): string | undefined {
  if (typeof value === 'string') return value
  if (!Array.isArray(value)) return undefined
  const named = value as { name?: unknown; template?: unknown }[]
  const chosen = named.find((entry) => entry?.name === 'default') ?? named[0]
  return typeof chosen?.template === 'string' ? chosen.template : undefined
}

const MONTHS = 'January February March April May June July August September October November December'.split(' ')
const DAYS = 'Sunday Monday Tuesday Wednesday Thursday Friday Saturday'.split(' ')

/** The directives of strftime that published templates use. */
function formatDate(date: Date, format: string): string {
  const two = (n: number): string => String(n).padStart(2, '0')
  const fields: Record<string, string> = {
    Y: String(date.getFullYear()),
    m: two(date.getMonth() + 1),
    d: two(date.getDate()),
    H: two(date.getHours()),
    M: two(date.getMinutes()),
    S: two(date.getSeconds()),
    B: MONTHS[date.getMonth()],
    b: MONTHS[date.getMonth()].slice(0, 3),
    A: DAYS[date.getDay()],
    a: DAYS[date.getDay()].slice(0, 3),
    '%': '%',
  }
  return format.replace(/%([A-Za-z%])/g, (whole, letter: string) => fields[letter] ?? whole)
}
