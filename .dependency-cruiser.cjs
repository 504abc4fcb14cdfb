/**
 * Who may import whom: every folder of src/ only what stands below it in this list.
 * scripts/check-layers.mjs runs these rules and proves on bad examples that they bite.
 */
const layers = [
  ['cli', 'server'],
  ['index'],
  ['engine'],
  ['generate'],
  ['speculate', 'text'],
  ['model'],
  ['memory'],
  ['weights'],
  ['tensor'],
  ['runtime'],
]

/** A layer is a folder of src/, or the one file index.ts. */
const location = (name) => (name === 'index' ? '^src/index[.]ts$' : `^src/${name}/`)

/** Neither upward nor sideways; tensor/ to generate/ also run without any of what is above them. */
const layering = layers.flatMap((names, height) =>
  names.map((name) => ({
    name: `${name}-imports-downward-only`,
    severity: 'error',
    from: { path: location(name) },
    to: {
      path: layers
        .slice(0, height + 1)
        .flat()
        .filter((other) => other !== name)
        .map(location),
    },
  })),
)

module.exports = {
  forbidden: [
    ...layering.filter(({ to }) => to.path.length > 0),
    {
      name: 'every-source-has-a-layer',
      comment:
        'Only index.ts and errors.ts stand directly in src/, and a new folder takes its place in the list above.',
      severity: 'error',
      from: {},
      to: { path: '^src/', pathNot: [...layers.flat().map(location), '^src/errors[.]ts$'] },
    },
    {
      name: 'errors-import-nothing',
      severity: 'error',
      from: { path: '^src/errors[.]ts$' },
      to: {},
    },
    {
      name: 'platform-modules-in-runtime-only',
      comment: 'src/runtime is the only door to the runtime.',
      severity: 'error',
      from: { path: '^src/', pathNot: '^src/runtime/' },
      to: { dependencyTypes: ['core'] },
    },
    {
      name: 'packages-where-they-belong',
      comment: 'src/text reads tokenizers and templates with the packages of Hugging Face; nothing else is imported.',
      severity: 'error',
      from: { path: '^src/', pathNot: '^src/text/' },
      to: { path: 'node_modules/' },
    },
    {
      name: 'text-imports-hugging-face-only',
      severity: 'error',
      from: { path: '^src/text/' },
      to: { path: 'node_modules/', pathNot: 'node_modules/@huggingface/' },
    },
    {
      name: 'packages-are-declared',
      comment: 'What users need stands in dependencies.',
      severity: 'error',
      from: { path: '^src/' },
      to: { dependencyTypes: ['npm-dev', 'npm-no-pkg', 'npm-unknown', 'npm-optional', 'npm-peer'] },
    },
    {
      name: 'sources-import-sources',
      comment: 'The package holds src/ alone.',
      severity: 'error',
      from: { path: '^src/' },
      to: { path: '^(test|bench|kernels|scripts|dist)/' },
    },
    { name: 'no-cycles', severity: 'error', from: {}, to: { circular: true } },
    { name: 'everything-resolves', severity: 'error', from: {}, to: { couldNotResolve: true } },
  ],
  options: {
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    doNotFollow: { path: 'node_modules' },
    enhancedResolveOptions: { exportsFields: ['exports'], conditionNames: ['import', 'types', 'default'] },
  },
}
