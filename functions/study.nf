/*
 * The study: what `--input` stands for. One data set in one regime, or a table (CSV, YAML, JSON) with a row for each
 * (data set, regime). study_schema.json names the columns: each is a parameter of that name, for its row alone.
 */
include { people_errors ; place_errors ; row_errors } from './checks.nf'
include { given_start ; held_out_cases ; is_test_folder } from './given.nf'
include { is_blank ; known_strategies ; nearest ; number_list ; parameter_schemas ; parse_strategy ; run_schemas ; strategy_texts ; typed_value ; value_error } from './parameters.nf'
include { by_people ; start_by_people ; with_prediction } from './people.nf'
include { file_name } from './plan.nf'
include { is_decathlon ; is_phantom } from './sources.nf'

// The columns that decide how a data set is prepared, which happens once for all of its rows.
def data_columns() {
    ['input', 'groups', 'group_pattern', 'free_masks', 'test_cases', 'test_fraction', 'split_seed', 'configuration', 'planner', 'plans', 'phantom_cases', 'phantom_seed']
}

def is_table(values) {
    values.input ==~ /(?i).+\.(csv|ya?ml|json)/
}

// The rows of the plan (plan.nf) from typed parameters that `study_errors` found nothing wrong with.
def study_rows(values) {
    numbered(typed_rows(values)).collect { i, row -> plan_row(row) + [where: is_table(values) ? row_place(values, i) : ''] }
}

// What cannot be run, one line each. Values that `parameter_errors` names are null here and passed over.
def study_errors(values) {
    def errors = place_errors(values)
    if( is_table(values) )
        return errors + table_errors(values) + (by_people(values) ? ['--oracle people: a study table is for studies; give one data set'] : [])
    errors + row_errors(values) + people_errors(values) + reference_errors([values]) + (values.data ? ["--data ${values.data}: it is for study tables (--input study.csv)"] : [])
}

// Typed parameters for each (data set, regime): those of the run, and over them what its row of the table says.
def typed_rows(values) {
    def schemas = parameter_schemas()
    is_table(values) ? table_rows(values).collect { row -> values + typed_row(row, schemas) } : [values]
}

def plan_row(given) {
    def values = given + start_by_people(given)
    def known = known_strategies(values.strategy_file)
    def start = values.start_queries ? given_start() : values.start_strategy
    values + [
        dataset: dataset_name(values),
        patch_size: values.patch_size.replaceAll(/\s/, ''),
        stride: values.stride.replaceAll(/\s/, ''),
        train_patch_size: values.train_patch_size?.replaceAll(/\s/, ''),
        seeds: number_list(values.seeds),
        query_size: query_sizes(values.query_size),
        start_strategy: start,
        start: parse_strategy(start, known),
        strategies: strategy_texts(values.strategies).collect { text -> with_prediction(values, parse_strategy(text, known)) },
        store: file(values.checkpoint_store).toUriString(),
        held_out: held_out_cases(values),
        test_folder: is_test_folder(values),
        whole_pool: false,
    ]
}

// Without --dataset, the input's own name; of a task of the Decathlon, what stands behind its number.
def dataset_name(values) {
    def known = is_phantom(values) || values.input.startsWith('msd:')
    def name = known ? values.input.replaceFirst(/^msd:(Task\d+_)?/, '') : file(values.input).name
    values.dataset ?: (file_name(name).replaceFirst(/^[^A-Za-z0-9]+/, '') ?: 'dataset') // files of this name are no options, nor hidden
}

// --query_size as a row has it: one number, or a list.
def query_sizes(text) {
    def sizes = number_list(text)
    sizes.size() == 1 ? sizes[0] : sizes
}

// The rows as they are written, for the run's protocol: study_row_1, study_row_2, ..; none where there is no table.
def written_rows(values) {
    numbered(is_table(values) ? table_rows(values) : []).collectEntries { i, row -> ["study_row_${i}".toString(), row] }
}

// What a run with another number of cycles changes in the queries of the earlier run in the same results, one line for each
// strategy whose schedule goes by that number. The rows of both are held together by their place in the table.
def schedule_warnings(values, rows) {
    def path = file("${values.outdir}/parameters.json")
    def before = path.exists() ? new groovy.json.JsonSlurper().parseText(path.text) : [:]
    numbered(rows).collectMany { i, row ->
        def (cycles, strategies) = ['cycles', 'strategies'].collect { name -> "${before["study_row_${i}"]?.get(name) ?: before[name]}".toString() }
        def same = row.strategies.findAll { strategy -> strategy.by_cycles && strategy.name in strategy_texts(strategies) }
        cycles in ['1', row.cycles.toString()] ? [] : same.collect { strategy ->
            "${row.where}${row.where ? ': ' : ''}queries of ${strategy.name} change, and what follows from them is made anew: its schedule has a step for each cycle, ${row.cycles} instead of ${cycles}; ${strategy.name}:steps=${cycles} queries as before"
        }
    }
}

// The names that a table's columns may have.
def study_columns() {
    new groovy.json.JsonSlurper().parseText(file("${projectDir}/study_schema.json").text).items.properties.keySet().toList()
}

// The rows of a table without blank cells, its files found: maps of column and text.
def table_rows(values) {
    read_table(file(values.input)).collect { row ->
        def cells = row.findAll { _column, cell -> !is_blank(cell) }
        def files = cells.subMap(['input', 'groups', 'free_masks', 'test_cases', 'start_queries', 'folds_file', 'initial_weights', 'plans']).collectEntries { column, path -> [column, found_file(values, path)] }
        (values.data ? [input: values.data] : [:]) + cells + files
    }
}

// Files in a table start from --data, or from the table's own folder.
def found_file(values, path) {
    def text = path.toString().trim()
    if( is_phantom([input: text]) || is_test_folder([test_cases: text]) || text ==~ /[a-z0-9]+:.+/ || text.startsWith('/') )
        return text
    "${values.data ?: file(values.input).toAbsolutePath().parent}/${text}".toString()
}

// A table's rows as maps. Raises an IllegalArgumentException that says what is wrong.
def read_table(path) {
    def rows = path.name ==~ /(?i).+\.csv/ ? csv_rows(path) : listed_rows(path)
    if( rows.isEmpty() )
        throw new IllegalArgumentException('it has no rows')
    rows
}

// Lines that start with # are remarks.
def csv_rows(path) {
    def table = path.splitCsv(quote: '"', strip: true).findAll { cells -> cells.any { cell -> cell } && !"${cells[0]}".startsWith('#') }
    def header = table ? table[0].collect { cell -> "${cell ?: ''}".replace('\uFEFF', '').toString() } : []
    if( header.size() == 1 && header[0].contains(';') )
        throw new IllegalArgumentException('its cells are separated by semicolons; commas are wanted')
    def twice = header.countBy { name -> name }.find { _name, times -> times > 1 }
    if( twice )
        throw new IllegalArgumentException("column '${twice.key}' stands in it twice")
    table.drop(1).withIndex().collect { cells, i ->
        if( cells.size() != header.size() )
            throw new IllegalArgumentException("row ${i + 1} has ${cells.size()} cells, the header has ${header.size()} (a cell with commas wants \"\" round it)")
        [header, cells].transpose().collectEntries { name, cell -> [name, cell] }
    }
}

// YAML, of which JSON is a part.
def listed_rows(path) {
    def content = new org.yaml.snakeyaml.Yaml().load(path.text)
    if( !(content instanceof List) || !content.every { row -> row instanceof Map } )
        throw new IllegalArgumentException('a list of rows is wanted, each with `name: value` lines')
    content.collect { row -> row.collectEntries { name, cell -> [name.toString(), cell] } }
}

def typed_row(row, schemas) {
    row.collectEntries { column, cell -> [column, typed_value(cell, schemas[column])] }
}

// How messages name a row of a table.
def row_place(values, i) {
    "${file(values.input).name}, row ${i}".toString()
}

// What is wrong with a table, one line each.
def table_errors(values) {
    if( !file(values.input).exists() )
        return ["--input ${values.input}: no such file"]
    if( file(values.input).isDirectory() )
        return ["--input ${values.input}: a folder with the name of a table; rename it"]
    if( !file(values.input).isFile() )
        return ["--input ${values.input}: not a file"] // a pipe would be waited for
    if( values.data && !values.plan && !is_decathlon([input: values.data]) && !file(values.data).exists() )
        return ["--data ${values.data}: no such folder"]
    try {
        def rows = table_rows(values)
        def schemas = run_schemas(values.plan)
        def columns = study_columns()
        def errors = numbered(rows).collectMany { i, row ->
            cell_errors(row, schemas, columns).collect { line -> "${row_place(values, i)}: ${line}".toString() }
        }
        return errors ?: whole_errors(file(values.input).name, values)
    }
    catch( IllegalArgumentException | IllegalStateException error ) {
        return ["--input ${values.input}: ${error.message}"]
    }
    catch( java.nio.charset.CharacterCodingException _error ) {
        return ["--input ${values.input}: not text in UTF-8; save it in that encoding"]
    }
    catch( org.yaml.snakeyaml.error.YAMLException error ) {
        return ["--input ${values.input}: neither YAML nor JSON (${error.message.readLines()*.trim().join(' ')})"]
    }
}

def cell_errors(row, schemas, columns) {
    def unknown = row.keySet().findAll { column -> !(column in columns) }.collect { column ->
        schemas.containsKey(column)
            ? "'${column}' is for the whole run; give it as --${column}"
            : "unknown column '${column}'; did you mean '${nearest(column, columns)}'?"
    }
    unknown + (row.input ? [] : ["no input: name a data set, or give its folder with --data"]) + row
        .findAll { column, _cell -> column in columns }
        .collect { column, cell -> value_error(column, cell, schemas[column]) }
        .findAll { line -> line }
}

// What is wrong with rows whose cells are right: each for itself, and with each other.
def whole_errors(name, values) {
    def rows = typed_rows(values)
    def single = numbered(rows).collectMany { i, row ->
        row_errors(row).collect { line -> "${row_place(values, i)}: ${line - '--'}".toString() }
    }
    single + same_errors(name, rows) + reference_errors(rows) + data_errors(name, rows)
}

// References on full labels go under a regime of their own.
def reference_errors(rows) {
    def taken = rows*.regime.find { regime -> regime ==~ /full\d*/ }
    taken && rows.any { row -> row.full_reference } ? ["--regime ${taken}: --full_reference takes this name; choose another"] : []
}

// Two rows of one (data set, regime), or names that differ in letters which files cannot hold.
def same_errors(name, rows) {
    numbered(rows).groupBy { _i, row -> [dataset_name(row), row.regime] }.findAll { _key, same -> same.size() > 1 }.collect { key, same ->
        "${name}, rows ${same.keySet().join(' and ')}: both are data set ${key[0]}, regime ${key[1]}; give one another regime".toString()
    }
}

// A data set is prepared once, so its rows must agree on what it is.
def data_errors(name, rows) {
    numbered(rows).groupBy { _i, row -> dataset_name(row) }.collectMany { dataset, same ->
        data_columns().findAll { column -> same.values()*.get(column).unique().size() > 1 }.collect { column ->
            "${name}, rows ${same.keySet().join(' and ')}: data set ${dataset} has more than one ${column}; name them apart (column dataset)".toString()
        }
    }
}

// Rows by their number in the table.
def numbered(rows) {
    rows.withIndex().collectEntries { row, i -> [i + 1, row] }
}
