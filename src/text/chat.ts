/** Conversations as prompts, by the model's own chat template (Jinja, as Hugging Face's apply_chat_template renders it). */
import { Environment, Interpreter, Template } from '@huggingface/jinja'
import { CoppiceError } from '../errors.ts'
import { specialToken } from './vocabulary.ts'

export interface Message {
  readonly role: string
  readonly content: string
}

export class ChatTemplate {
  readonly #program: Template['parsed']
  /** Special tokens under their names in the config, for those that it has. */
  readonly #specials: Readonly<Record<string, string>>
  readonly #directory: string

  /**
   * @param file content of chat_template.jinja, which wins over the config
   * @param config tokenizer_config.json
   * @throws CoppiceError NO_CHAT_TEMPLATE when there is none; UNSUPPORTED_FORMAT when it is no template
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
      // Template trims blocks as Hugging Face does; it is not used to render, because its own
      // strftime_now speaks the host's language and cannot be replaced.
      this.#program = new Template(source).parsed
    } catch (cause) {
      throw new CoppiceError(
        'UNSUPPORTED_FORMAT',
        `the chat template in ${directory} cannot be read: ${reason(cause)}; give the prompt as text or tokens`,
        { cause },
      )
    }
    this.#directory = directory
    const specials: Record<string, string> = {}
    for (const [name, value] of Object.entries(config)) {
      const text = name.endsWith('_token') ? specialToken(value) : undefined
      if (text !== undefined) specials[name] = text
    }
    this.#specials = specials
  }

  /**
   * The prompt up to where the assistant's answer begins.
   * @param date what the template learns as the current time, in local time
   * @throws CoppiceError INVALID_INPUT when the messages are malformed or the template refuses them
   */
  render(messages: readonly Message[], date = new Date()): string {
    messages.forEach((message, i) => {
      if (typeof message?.role !== 'string' || typeof message.content !== 'string') {
        throw new CoppiceError('INVALID_INPUT', `message ${i} must be { role: string, content: string }`)
      }
    })
    const environment = new Environment()
    const variables = {
      ...GLOBALS,
      ...this.#specials,
      messages,
      add_generation_prompt: true,
      tools: null,
      documents: null,
    }
    for (const [name, value] of Object.entries(variables)) environment.set(name, value)
    environment.set('strftime_now', (format: string): string => formatDate(date, format))
    try {
      return String(new Interpreter(environment).run(this.#program).value)
    } catch (cause) {
      throw new CoppiceError(
        'INVALID_INPUT',
        `the chat template in ${this.#directory} refuses these messages: ${reason(cause)}`,
        { cause },
      )
    }
  }
}

const reason = (error: unknown): string => (error instanceof Error ? error.message : String(error))

/** A string; or of a list of named templates the one called 'default', or the only one. */
function templateIn(value: unknown): string | undefined {
  if (typeof value === 'string') return value
  if (!Array.isArray(value)) return undefined
  const named = value as { name?: unknown; template?: unknown }[]
  const chosen = named.find((entry) => entry?.name === 'default') ?? (named.length === 1 ? named[0] : undefined)
  return typeof chosen?.template === 'string' ? chosen.template : undefined
}

/** What templates find besides their variables: Jinja's constants (both spellings) and Hugging Face's functions. */
const GLOBALS: Readonly<Record<string, unknown>> = {
  true: true,
  True: true,
  false: false,
  False: false,
  none: null,
  None: null,
  range,
  raise_exception: (message: string): never => {
    throw new Error(message)
  },
}

/** Python's range(stop) and range(start, stop, step). */
function range(first: number, second?: number, step = 1): number[] {
  const [start, stop] = second === undefined ? [0, first] : [first, second]
  if (step === 0) throw new Error('range() step must not be zero')
  return Array.from({ length: Math.max(0, Math.ceil((stop - start) / step)) }, (_, i) => start + i * step)
}

const MONTHS = 'January February March April May June July August September October November December'.split(' ')
const DAYS = 'Sunday Monday Tuesday Wednesday Thursday Friday Saturday'.split(' ')

/** The directives of strftime that published templates use, in English whatever the host's language. */
function formatDate(date: Date, format: string): string {
  const two = (n: number): string => String(n).padStart(2, '0')
  const fields: Record<string, string> = {
    Y: String(date.getFullYear()),
    y: two(date.getFullYear() % 100),
    m: two(date.getMonth() + 1),
    d: two(date.getDate()),
    H: two(date.getHours()),
    I: two(date.getHours() % 12 || 12),
    p: date.getHours() < 12 ? 'AM' : 'PM',
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
