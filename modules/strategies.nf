/*
 * Query strategies: bin/nnactive_nf/query/strategies.json is the registry that Python reads too; a user's own stand in
 * the file that --strategy_file names.
 */
include { nearest ; typed_value ; value_error } from './parameters.nf'

// The registry: a list of maps of name, label, paper_name, maps, oracle_aware, start, options.
def strategy_registry() {
    new groovy.json.JsonSlurper().parseText(file("${projectDir}/bin/nnactive_nf/query/strategies.json").text)
}

// The same maps for the public functions and classes of a user's file, whose options only Python can check.
def own_strategies(path) {
    if( !path || !file(path).exists() )
        return []
    def text = file(path).text
    def maps = own_maps(text) ?: []
    (text =~ /(?m)^(?:def|class) ([A-Za-z]\w*)\s*[(:]/).collect { match ->
        [name: match[1], label: match[1], paper_name: '', maps: maps, oracle_aware: false, start: maps.isEmpty(), own: true]
    }
}

// The names in the line `MAPS = ["predictive_entropy", ...]` of a user's file; null where there is no such line.
def own_maps(text) {
    def found = (text =~ /(?ms)^MAPS\s*(?::[^=\n]*)?=\s*[\[(](.*?)[\])]/).collect { match -> match[1] }
    found ? (found[0] =~ /["'](\w+)["']/).collect { match -> match[1] } : null
}

// Names of the maps that PREDICT can write: the keys of MAPS in core/uncertainty.py, where they are described.
def map_names() {
    def text = file("${projectDir}/bin/nnactive_nf/core/uncertainty.py").text
    (text.replaceAll(/(?s).*?\nMAPS\b[^{]*\{(.*?)\n\}.*/, '$1') =~ /(?m)^\s*"(\w+)":/).collect { match -> match[1] }
}

// The entries of a list of strategies, as texts without spaces.
def strategy_texts(strategies) {
    (strategies ?: '').split(',').collect { text -> text.replaceAll(/\s/, '') }.findAll { text -> text }
}

// The [option, value] pairs of name:option=value:option=value; a part without `=` has the value ''.
def option_pairs(text) {
    text.split(':').drop(1).collect { part ->
        def equals = part.indexOf('=')
        equals < 0 ? [part, ''] : [part.take(equals), part.drop(equals + 1)]
    }
}

// A strategy as the user wrote it, e.g. power_bald:beta=10, with what the registry knows of it:
// [name, base, options (all of them, typed), label, paper_name, oracle_aware, needs_model, maps, own]; null where unknown.
def parse_strategy(text, known) {
    def entry = known.find { candidate -> candidate.name == text.tokenize(':')[0] }
    if( !entry )
        return null
    def given = option_pairs(text).collectEntries { option, value -> [option, value] }
    def typed = (entry.options ?: [:]).collectEntries { option, schema ->
        [option, typed_value(given.containsKey(option) ? given[option] : schema.default, schema)]
    }
    def remarks = given.collect { option, value -> "${option.replace('_', ' ')} ${value}" }.join(', ')
    [
        name: text,
        base: entry.name,
        options: given + typed,
        label: remarks ? "${entry.label} (${remarks})".toString() : entry.label,
        paper_name: entry.paper_name,
        oracle_aware: entry.oracle_aware,
        needs_model: !entry.maps.isEmpty(),
        maps: entry.maps.toList(),
        own: entry.own ?: false,
    ]
}

// What is wrong with one strategy, one line each.
def strategy_errors(where, text, known) {
    def name = text.tokenize(':')[0] ?: ''
    def entry = known.find { candidate -> candidate.name == name }
    if( !entry )
        return ["${where}: unknown strategy '${name}'; did you mean '${nearest(name, known*.name)}'?"]
    def given = option_pairs(text)
    def twice = given.countBy { option, _value -> option }.findAll { _option, times -> times > 1 }.keySet()
    def lacking = (entry.options ?: [:]).findAll { option, schema -> schema.required && !given.any { pair -> pair[0] == option } }
    given.collect { option, value -> option_error("${where} ${text}", option, value, entry) }.findAll { line -> line } +
        twice.collect { option -> "${where} ${text}: option '${option}' is given twice" } +
        lacking.collect { option, schema -> "${where} ${text}: option '${option}' is missing: ${schema.description}" }
}

def option_error(where, option, value, entry) {
    if( !option || !value )
        return "${where}: '${option}' is no option with a value; write name:option=value"
    if( entry.own )
        return null
    if( !entry.options )
        return "${where}: ${entry.name} has no options"
    if( !entry.options.containsKey(option) )
        return "${where}: unknown option '${option}' of ${entry.name}; did you mean '${nearest(option, entry.options.keySet())}'?"
    value_error("${where}: ${option}", value, entry.options[option])
}
