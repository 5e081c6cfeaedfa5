/*
 * Query strategies: bin/nnactive_nf/query/strategies.json is the registry that Python reads too; a user's own stand in
 * the file that --strategy_file names.
 */
include { nearest ; typed_value ; value_error } from './parameters.nf'

// The registry: a list of maps of name, label, paper_name, maps, oracle_aware, start, options.
def strategy_registry() {
    new groovy.json.JsonSlurper().parseText(file("${projectDir}/bin/nnactive_nf/query/strategies.json").text)
}

// The same maps for the public functions of a user's file; none without a file.
def own_strategies(strategy_file) {
    if( !strategy_file || !file(strategy_file).exists() )
        return []
    def text = file(strategy_file).text
    def maps = own_maps(text) ?: []
    (text =~ /(?m)^def ([A-Za-z]\w*)\s*\(/).collect { match ->
        [name: match[1], label: match[1], paper_name: '', maps: maps, oracle_aware: false, start: false, options: [:], own: true]
    }
}

// The names in the line `MAPS = ["predictive_entropy", ...]` of a user's file; null where there is no such line.
def own_maps(text) {
    def found = (text =~ /(?ms)^MAPS\s*(?::[^=\n]*)?=\s*[\[(](.*?)[\])]/).collect { match -> match[1] }
    found ? (found[0] =~ /["'](\w+)["']/).collect { match -> match[1] } : null
}

// The entries of `strategies`, as texts without spaces.
def strategy_texts(strategies) {
    (strategies ?: '').split(',').collect { text -> text.replaceAll(/\s/, '') }.findAll { text -> text }
}

// A strategy as the user wrote it, e.g. power_bald:beta=10, with what the registry knows of it:
// [name, base, options (all of them, typed), label, paper_name, oracle_aware, needs_model, maps, own]; null where unknown.
def parse_strategy(text, known) {
    def parts = text.tokenize(':')
    def entry = known.find { candidate -> candidate.name == parts[0] }
    if( !entry )
        return null
    def given = parts.drop(1).collectEntries { part -> [part.tokenize('=')[0], part.contains('=') ? part.substring(part.indexOf('=') + 1) : null] }
    def options = entry.options.collectEntries { name, schema -> [name, typed_value(given.containsKey(name) ? given[name] : schema.default, schema)] }
    [
        name: text,
        base: entry.name,
        options: options,
        label: given ? "${entry.label} (${given.collect { name, value -> "${name} ${value}" }.join(', ')})".toString() : entry.label,
        paper_name: entry.paper_name,
        oracle_aware: entry.oracle_aware,
        needs_model: !entry.maps.isEmpty(),
        maps: entry.maps.toList(),
        own: entry.own ?: false,
    ]
}

// What is wrong with one entry of `strategies`, one line each.
def strategy_errors(where, text, known) {
    def parts = text.tokenize(':')
    def entry = known.find { candidate -> candidate.name == parts[0] }
    if( !entry )
        return ["${where}: unknown strategy '${parts[0]}'; did you mean '${nearest(parts[0] ?: '', known*.name)}'?"]
    parts.drop(1).collect { part ->
        def name = part.tokenize('=')[0] ?: ''
        def value = part.contains('=') ? part.substring(part.indexOf('=') + 1) : ''
        if( !entry.options )
            return "${where} ${text}: ${entry.name} has no options"
        if( !entry.options.containsKey(name) )
            return "${where} ${text}: unknown option '${name}' of ${entry.name}; did you mean '${nearest(name, entry.options.keySet())}'?"
        if( !value )
            return "${where} ${text}: option '${name}' has no value; write ${name}=VALUE"
        return value_error("${where} ${text}: ${name}", value, entry.options[name])
    }.findAll { line -> line }
}
