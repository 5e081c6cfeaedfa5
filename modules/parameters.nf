/*
 * Parameters: nextflow_schema.json describes them, this file checks them against it and prints them for --help.
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
    def schemas = parameter_schemas()
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
    return value instanceof Boolean ? null : text
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
        return "${where} ${value}: must be one of ${schema['enum'].join(', ')}; did you mean ${nearest(typed.toString(), schema['enum'])}?"
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
