/** How to start a script in a process of its own on the runtime that runs this one. */
export function selfCommand(script: string, ...args: string[]): [string, ...string[]] {
  const flags = process.versions.deno === undefined ? [] : ['run', '--allow-all', '--no-lock', '--no-remote']
  return [process.execPath, ...flags, script, ...args]
}
