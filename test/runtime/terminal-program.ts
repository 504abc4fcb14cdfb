/** A program at the other end of a pipe, for the tests of src/runtime/terminal.ts. */
import {
  coloursAllowed,
  onInterrupt,
  readStdin,
  setExitCode,
  stderr,
  stdinIsTerminal,
  stdout,
} from '../../src/runtime/terminal.ts'

switch (process.argv[2]) {
  case 'write':
    // More than a pipe holds, then an end without any goodbye to the streams.
    for (let i = 0; i < 20_000; i++) stdout.write(`line ${i} äöü\n`)
    stderr.write('written\n')
    process.exit(3)
    break
  case 'flood':
    for (let i = 0; ; i++) stdout.write(`${i}\n`)
  case 'read':
    setExitCode(4)
    stdout.write(JSON.stringify({ text: await readStdin(), terminal: stdinIsTerminal() }))
    break
  case 'describe':
    stdout.write(
      JSON.stringify({ terminal: stdout.isTerminal, columns: stdout.columns, colours: coloursAllowed(stdout) }),
    )
    break
  case 'interrupt': {
    const timer = setInterval(() => {}, 1000)
    onInterrupt(() => {
      stdout.write('interrupted\n')
      if (process.argv[3] === 'obey') clearInterval(timer)
    })
    stdout.write('ready\n')
    break
  }
}
