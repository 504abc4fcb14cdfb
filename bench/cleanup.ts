/** What must be undone when a program ends, in whatever way it can still notice: by itself, by a fault, by Ctrl-C. */

const pending = new Set<() => void>()

process.on('exit', () => {
  for (const undo of [...pending].reverse()) undo()
})
for (const [signal, number] of [
  ['SIGINT', 2],
  ['SIGTERM', 15],
  ['SIGHUP', 1],
] as const) {
  // The code that shells give to a program that a signal ended.
  process.on(signal, () => process.exit(128 + number))
}

/**
 * @param undo synchronous; called at the end of the process, the latest first
 * @returns undoes it now instead
 */
export function atEnd(undo: () => void): () => void {
  pending.add(undo)
  return () => {
    if (pending.delete(undo)) undo()
  }
}
