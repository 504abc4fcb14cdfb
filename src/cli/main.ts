#!/usr/bin/env node
/** The `coppice` command. */
import { CoppiceError } from '../errors.ts'
import { commandArguments, type Flags, helpText, helpWidth, parseArguments, wrap } from '../runtime/arguments.ts'
import { packageVersion } from '../runtime/files.ts'
import { setExitCode, stderr, stdout } from '../runtime/terminal.ts'
import { bench } from './bench.ts'
import type { Command } from './command.ts'
import { inspectState, warmState } from './drafter.ts'
import { HELP_FLAG } from './flags.ts'
import { inspect } from './inspect.ts'
import { logits } from './logits.ts'
import { pack } from './pack.ts'
import { plan } from './plan.ts'
import { run } from './run.ts'
import { verify } from './verify.ts'

const COMMANDS = [
  ...[run, bench, pack, verify, inspect, plan, logits],
  ...[inspectState, warmState],
] as unknown as readonly Command<Flags>[]

/** Exit code for a command line that makes no sense, as shells use it. */
const USAGE_EXIT_CODE = 2

async function main(args: readonly string[]): Promise<number> {
  const [name] = args
  if (name === '--version' || name === '-V') {
    stdout.write(`coppice ${packageVersion()}\n`)
    return 0
  }
  const found = COMMANDS.find((command) => args.slice(0, words(command)).join(' ') === command.name)
  if (found === undefined) {
    const group = COMMANDS.filter((command) => command.name.startsWith(`${name} `))
    if (name === undefined || name === '--help' || name === '-h' || name === 'help' || asksForHelp(group, args)) {
      stdout.write(overview(group.length > 0 ? group : COMMANDS))
      return name === undefined ? USAGE_EXIT_CODE : 0
    }
    const [given, known] = group.length > 0 ? [args.slice(0, 2).join(' '), group] : [name, COMMANDS]
    throw new CoppiceError(
      'INVALID_OPTION',
      `there is no command "${given}"; there are ${known.map((command) => command.name).join(', ')}`,
    )
  }
  const rest = args.slice(words(found))
  if (rest.includes('--help') || rest.includes('-h')) {
    stdout.write(helpText(found, stdout.columns))
    return 0
  }
  return found.run(parseArguments(found.flags, rest))
}

const words = ({ name }: Command<Flags>): number => name.split(' ').length

/** Whether help is asked for on commands that begin with the same word. */
const asksForHelp = (group: readonly unknown[], args: readonly string[]): boolean =>
  group.length > 0 && (args.includes('--help') || args.includes('-h'))

function overview(listed: readonly Command<Flags>[]): string {
  const column = Math.max(...listed.map((command) => command.name.length)) + 4
  const commands = listed.flatMap(({ name, purpose }) =>
    wrap(name.padEnd(column - 2) + purpose, helpWidth(stdout.columns), 2, column),
  )
  const help = helpText(
    {
      usage: 'coppice COMMAND [flags] ...',
      summary: 'Runs language models that do not fit in memory. `coppice COMMAND --help` tells more.',
      flags: { ...HELP_FLAG, version: { type: 'boolean', short: 'V', env: false, help: 'show the version' } },
      examples: ['coppice run embedded "The old house stood at the end of the lane, and"'],
    },
    stdout.columns,
  )
  return `${help}\nCommands:\n${commands.join('\n')}\n`
}

try {
  setExitCode(await main(commandArguments()))
} catch (error) {
  if (!(error instanceof CoppiceError)) throw error
  stderr.write(`coppice: ${error.message} [${error.code}]\n`)
  setExitCode(error.code === 'INVALID_OPTION' ? USAGE_EXIT_CODE : 1)
}
