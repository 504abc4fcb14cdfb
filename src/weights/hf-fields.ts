/** A config.json, field by field, so that none is overlooked. */
import { CoppiceError } from '../errors.ts'
import { isJsonObject, type JsonObject, showValue } from './json.ts'

/** Fields of every family that say nothing about how logits come about. */
const HARMLESS: ReadonlySet<string> = new Set([
  // Where the file came from and what wrote it.
  '_name_or_path',
  'name_or_path',
  '_commit_hash',
  'transformers_version',
  'unsloth_version',
  'unsloth_fixed',
  'is_llama_config',
  'transformers.js_config',
  // The class is chosen by model_type; what a tensor is stored as is in the file itself.
  'architectures',
  'torch_dtype',
  'dtype',
  'use_bfloat16',
  // How a framework computes the same values.
  'use_cache',
  'pretraining_tp',
  'chunk_size_feed_forward',
  'attn_implementation',
  '_attn_implementation',
  '_attn_implementation_autoset',
  '_flash_attn_2_enabled',
  'torchscript',
  'tf_legacy_loss',
  // What a framework returns, or needs for training and for other tasks.
  'initializer_range',
  'gradient_checkpointing',
  'neftune_noise_alpha',
  'return_dict',
  'use_return_dict',
  'output_attentions',
  'output_hidden_states',
  'output_scores',
  'keys_to_ignore_at_inference',
  'finetuning_task',
  'task_specific_params',
  'problem_type',
  'id2label',
  'label2id',
  'num_labels',
  // Text, not logits.
  'tokenizer_class',
  'pad_token_id',
  'sep_token_id',
  'decoder_start_token_id',
  'model_max_length',
  'max_sequence_length',
  // Defaults of generation that old files keep here; generation_config.json is where they belong.
  'do_sample',
  'early_stopping',
  'max_length',
  'max_new_tokens',
  'min_length',
  'num_beams',
  'num_beam_groups',
  'num_return_sequences',
  'diversity_penalty',
  'length_penalty',
  'repetition_penalty',
  'no_repeat_ngram_size',
  'encoder_no_repeat_ngram_size',
  'remove_invalid_values',
  'return_dict_in_generate',
  'temperature',
  'top_k',
  'top_p',
  'typical_p',
])

/** Dropout happens in training only. */
const DROPOUT = /(^|_)(dropout|pdrop|layerdrop)(_prob|_rate)?$/

/** True for a value that switches a feature off, whatever the feature is. */
const isNeutral = (value: unknown): boolean =>
  value === null ||
  value === undefined ||
  value === false ||
  value === '' ||
  (Array.isArray(value) && value.length === 0) ||
  (isJsonObject(value) && Object.keys(value).length === 0)

/** The fields of one JSON object; remembers which ones were asked for. */
export class ConfigFields {
  /** Path of the file, and of the object in it, for messages. */
  readonly where: string
  readonly #object: JsonObject
  readonly #seen = new Set<string>()

  constructor(object: JsonObject, where: string) {
    this.#object = object
    this.where = where
  }

  /** The value as it stands: `null` when it is null, `undefined` when the field is absent. */
  value(name: string): unknown {
    this.#seen.add(name)
    return Object.hasOwn(this.#object, name) ? this.#object[name] : undefined
  }

  /** @returns `fallback` when the field is absent or null. @throws CoppiceError CORRUPT_FILE */
  integer<T>(name: string, fallback: T): number | T {
    const value = this.value(name)
    if (value === undefined || value === null) return fallback
    if (!Number.isSafeInteger(value) || (value as number) < 1) throw this.malformed(name, 'a positive integer')
    return value as number
  }

  /** @returns `fallback` when the field is absent or null. @throws CoppiceError CORRUPT_FILE */
  positive<T>(name: string, fallback: T): number | T {
    const value = this.value(name)
    if (value === undefined || value === null) return fallback
    if (typeof value !== 'number' || !Number.isFinite(value) || value <= 0)
      throw this.malformed(name, 'a positive number')
    return value
  }

  /** @returns `fallback` when the field is absent or null. @throws CoppiceError CORRUPT_FILE */
  flag(name: string, fallback: boolean): boolean {
    const value = this.value(name)
    if (value === undefined || value === null) return fallback
    if (typeof value !== 'boolean') throw this.malformed(name, 'true or false')
    return value
  }

  /** @returns `fallback` when the field is absent or null. @throws CoppiceError CORRUPT_FILE */
  text(name: string, fallback: string): string {
    const value = this.value(name)
    if (value === undefined || value === null) return fallback
    if (typeof value !== 'string') throw this.malformed(name, 'text')
    return value
  }

  /** A list of token ids, however it is spelled: absent or null, one id, or several. @throws CoppiceError CORRUPT_FILE */
  tokens(name: string): number[] | undefined {
    const value = this.value(name)
    if (value === undefined || value === null) return undefined
    const list: unknown[] = Array.isArray(value) ? value : [value]
    if (!list.every((id): id is number => Number.isSafeInteger(id) && (id as number) >= 0)) {
      throw this.malformed(name, 'a token id or a list of token ids')
    }
    return [...new Set(list)]
  }

  /**
   * A field that is accepted only when it has no effect.
   * @param accepts what has no effect beside null, false and empty
   * @throws CoppiceError UNSUPPORTED_ARCHITECTURE
   */
  unsupported(name: string, supported: string, accepts: (value: unknown) => boolean = () => false): void {
    const value = this.value(name)
    if (!isNeutral(value) && !accepts(value)) throw this.refusal(name, supported)
  }

  /**
   * To be called when all fields that matter were read: whatever else is there is known to be
   * harmless, or switched off, or refused.
   * @throws CoppiceError UNSUPPORTED_ARCHITECTURE
   */
  refuseOthers(): void {
    for (const [name, value] of Object.entries(this.#object)) {
      if (this.#seen.has(name) || HARMLESS.has(name) || DROPOUT.test(name) || isNeutral(value)) continue
      throw this.refusal(name, 'leaving it out, null, false or empty; it is not known what it changes')
    }
  }

  /** @param supported completes "supported: ..." */
  refusal(name: string, supported: string): CoppiceError {
    const value = showValue(this.#object[name])
    return new CoppiceError(
      'UNSUPPORTED_ARCHITECTURE',
      `${this.where}: ${name} is ${value}, which this version cannot run; supported: ${supported}`,
    )
  }

  /** @param expected completes "should be ..." */
  malformed(name: string, expected: string): CoppiceError {
    return new CoppiceError(
      'CORRUPT_FILE',
      `${this.where}: ${name} should be ${expected}, not ${showValue(this.#object[name])}`,
    )
  }
}
