/*
 * Parameters and strategies: nextflow_schema.json describes the parameters, this file checks them against it and prints
 * them for --help. bin/nnactive_nf/core/strategies.json is the registry of query strategies that Python reads too; a
 * user's own stand in the file that --strategy_file names. What options a strategy has is Python's to know
 * (core/strategies.py).
 */

// The schema's groups in its order: maps of title, description, required and properties (name -> JSON schema).
def parameter_groups() {
    def schema = new groovy.json.JsonSlurper().parseText(file("${projectDir}/nextflow_schema.json").text)
    schema.allOf.collect { reference -> schema['$defs'][reference['$ref'].tokenize('/').last()] }
}

// All parameters' JSON schemas by name.
def parameter_schemas() {
    parameter_groups().collectEntries { group -> group.properties }
}

// The same for a run, or for --plan, where the data need not be there yet.
def run_schemas(planned) {
    parameter_schemas().collectEntries { name, schema ->
        [name, planned && name in ['groups', 'free_masks'] ? schema.findAll { key, _value -> key != 'exists' } : schema]
    }
}

// The parameters as their schema's types (text, Integer, BigDecimal, Boolean), by name and sorted; null where not given.
// Values that do not fit are null here and named by `parameter_errors`; files that are missing stay.
def typed_parameters(given) {
    parameter_schemas().sort { entry -> entry.key }.collectEntries { name, schema ->
        def wrong = value_error(name, given[name], schema.findAll { key, _value -> key != 'exists' })
        [name, wrong ? null : typed_value(given[name], schema)]
    }
}

// What is wrong with single parameters, one line each: unknown, missing, of the wrong type, out of range.
def parameter_errors(given) {
    def schemas = run_schemas("${given.plan}" == 'true')
    def unknown = given.keySet().findAll { name -> !schemas.containsKey(name) }.sort()
    def required = parameter_groups().collectMany { group -> group.required ?: [] }
    unknown.collect { name -> "unknown parameter --${name}; did you mean --${nearest(name, schemas.keySet())}?" } +
        required.findAll { name -> is_blank(given[name]) }.collect { name -> "--${name} is missing: ${schemas[name].description}" } +
        schemas.findAll { name, _schema -> !(name in required && is_blank(given[name])) }
            .collect { name, schema -> value_error("--${name}", given[name], schema) }
            .findAll { line -> line }
}

// A value as its schema's type, or null where it is none. Lists (from a parameter file) become text with commas.
def typed_value(value, schema) {
    if( is_blank(value) )
        return null
    def text = (value instanceof List ? value.join(',') : value.toString()).trim()
    if( schema.type == 'boolean' )
        return text in ['true', 'false'] ? text == 'true' : null
    if( schema.type == 'integer' )
        return text ==~ /[+-]?\d{1,9}/ ? text as Integer : null
    if( schema.type == 'number' )
        return text ==~ /[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,2})?/ ? plain_number(text) : null
    return text in ['true', 'false'] && !(text in schema['enum']) ? null : text // a bare option: to Nextflow 25.04 a Boolean, to 26.04 a text
}

// What is wrong with a value, in one line that starts with `where`; null where it fits its schema.
def value_error(where, value, schema) {
    if( is_blank(value) )
        return null
    def typed = typed_value(value, schema)
    def kinds = [boolean: 'true or false', integer: 'a whole number', number: 'a number', string: 'a value']
    if( typed == null )
        return schema.type == 'string' ? "${where}: a value must follow" : "${where} ${value}: must be ${kinds[schema.type]}"
    if( schema['enum'] && !(typed in schema['enum']) )
        return schema.errorMessage ? "${where} ${value}: ${schema.errorMessage}" : "${where} ${value}: must be one of ${schema['enum'].join(', ')}; did you mean ${nearest(typed.toString(), schema['enum'])}?"
    if( schema.pattern && !(typed ==~ schema.pattern) )
        return "${where} ${value}: ${schema.errorMessage ?: 'must match ' + schema.pattern}"
    if( schema.minimum != null && typed < schema.minimum )
        return "${where} ${value}: must be at least ${schema.minimum}"
    if( schema.maximum != null && typed > schema.maximum )
        return "${where} ${value}: must be at most ${schema.maximum}"
    if( schema.exclusiveMinimum != null && typed <= schema.exclusiveMinimum )
        return "${where} ${value}: must be more than ${schema.exclusiveMinimum}"
    if( schema.exclusiveMaximum != null && typed >= schema.exclusiveMaximum )
        return "${where} ${value}: must be less than ${schema.exclusiveMaximum}"
    if( schema.exists && !file(typed).exists() )
        return "${where} ${value}: no such file"
    if( schema.exists && schema.format == 'file-path' && !file(typed).isFile() )
        return "${where} ${value}: not a file" // a pipe would be waited for
    return null
}

def is_blank(value) {
    value == null || value.toString().trim() == ''
}

// 0.50, 5e-1 and .5 are one number, so that they hash alike.
def plain_number(text) {
    def number = new BigDecimal(text).stripTrailingZeros()
    number.scale() < 0 ? number.setScale(0) : number
}

def number_list(text) {
    text.split(',').collect { part -> part.trim() as Integer }
}

// The name that takes the fewest edits from `name`.
def nearest(name, names) {
    names.toList().sort().min { candidate -> edit_distance(name.toLowerCase(), candidate.toLowerCase()) }
}

// Levenshtein distance, row by row.
def edit_distance(a, b) {
    a.toList().inject((0..b.size()).toList()) { row, letter ->
        (0..<b.size()).inject([row[0] + 1]) { next, i ->
            next + [[next[i] + 1, row[i + 1] + 1, row[i] + (letter == b[i] ? 0 : 1)].min()]
        }
    }.last()
}

// What --help prints: every parameter by group, hidden ones left out.
def help_text() {
    def groups = parameter_groups().collect { group ->
        def lines = group.properties.findAll { _name, schema -> !schema.hidden }.collect { name, schema ->
            def choices = schema['enum'] ? " (${schema['enum'].join(', ')})" : ''
            def preset = schema.default == null || schema.default == '' ? '' : " [${schema.default}]"
            "  --${name.padRight(20)} ${schema.description}${choices}${preset}"
        }
        lines ? ([group.title] + lines).join('\n') : ''
    }
    def usage = 'nextflow run main.nf --input FOLDER [--outdir FOLDER] [parameters] [-profile NAMES] [-resume]'
    ([usage] + groups.findAll { text -> text }).join('\n\n')
}

// What is known of strategies: the registry's entries by name (label, paper_name, maps, oracle_aware, start, ..), and, where
// there is a strategy file, what all strategies in it have in common.
def known_strategies(strategy_file) {
    def registry = new groovy.json.JsonSlurper().parseText(file("${projectDir}/bin/nnactive_nf/core/strategies.json").text)
    def maps = strategy_file && file(strategy_file).exists() ? own_maps(file(strategy_file).text) : []
    [
        named: registry.collectEntries { entry -> [entry.name, entry] },
        own: strategy_file ? [paper_name: '', maps: maps, oracle_aware: false, start: maps.isEmpty(), own: true] : null,
    ]
}

// The names in the line `MAPS = ["predictive_entropy", ...]` of a user's file. PREDICT must know them before any Python has
// read that file; CHECK refuses a file whose line says anything else (core/strategy_file.py).
def own_maps(text) {
    def line = (text =~ /(?ms)^MAPS\s*(?::[^=\n]*)?=\s*[\[(](.*?)[\])]/).collect { match -> match[1] }.join(' ')
    (line =~ /["'](\w+)["']/).collect { match -> match[1] }
}

// The entries of a list of strategies, as texts without spaces.
def strategy_texts(strategies) {
    (strategies ?: '').split(',').collect { text -> text.replaceAll(/\s/, '') }.findAll { text -> text }
}

// What is known of the strategy of a text name:option=value:option=value; null where nothing is. A name that the registry
// lacks is taken as one of the user's file, where there is such a file.
def strategy_entry(text, known) {
    def name = text.tokenize(':')[0] ?: ''
    known.named[name] ?: (known.own ? known.own + [name: name, label: name] : null)
}

// A strategy as the user wrote it, e.g. power_bald:beta=10: [name, base, label, paper_name, oracle_aware, needs_model, maps,
// by_cycles (whether its schedule has as many steps as the run has cycles), own]; null where it is unknown. Its options are
// for Python to check (CHECK) and to use.
def parse_strategy(text, known) {
    def entry = strategy_entry(text, known)
    if( !entry )
        return null
    def remarks = text.tokenize(':').drop(1).collect { part -> part.tokenize('=') }.collect { words ->
        ([words[0]?.replace('_', ' ')] + words.drop(1).join('=')).join(' ')
    }
    [
        name: text,
        base: entry.name,
        label: remarks ? "${entry.label} (${remarks.join(', ')})".toString() : entry.label,
        paper_name: entry.paper_name,
        oracle_aware: entry.oracle_aware,
        needs_model: !entry.maps.isEmpty(),
        maps: entry.maps.toSorted().join(','),
        by_cycles: (entry.scheduled ?: false) && !text.contains(':steps='),
        own: entry.own ?: false,
    ]
}

// A name that nothing is known of, in one line; null where it is known.
def name_error(where, text, known) {
    def name = text.tokenize(':')[0] ?: ''
    strategy_entry(text, known) ? null : "${where}: unknown strategy '${name}'; did you mean '${nearest(name, known.named.keySet())}'?"
}
