/*
 * Checks of parameters against each other, the data and the places for results, before any task runs.
 */
include { unwritable } from './shell.nf'
include { folder_cases } from './images.nf'
include { known_strategies ; map_names ; nearest ; own_maps ; own_strategies ; parse_strategy ; strategy_errors ; strategy_registry ; strategy_texts } from './parameters.nf'
include { decathlon_task ; decathlon_tasks ; download_folder ; is_awaited ; raw_folder ; without_number } from './decathlon.nf'
include { file_name ; is_phantom ; seed_list } from './plan.nf'

// What is wrong with the run as a whole, one line each.
def common_errors(values) {
    own_file_errors(values) + place_errors(values)
}

// What is wrong with one (data set, regime).
def row_errors(values) {
    input_errors(values) + strategy_list_errors(values) + budget_errors(values)
}

def input_errors(values) {
    if( !values.input )
        return []
    def layout = 'an nnU-Net raw or a Decathlon folder is wanted'
    if( is_phantom(values) )
        return ['groups', 'free_masks'].findAll { name -> values[name] }.take(1).collect { name ->
            "--${name} ${values[name]}: the phantom brings its own patients and free voxels; leave it out"
        }
    if( is_awaited(values) )
        return decathlon_task(values) ? download_errors(values) : task_errors(values)
    def folder = file(raw_folder(values))
    if( !folder.exists() )
        return values.plan ? [] : ["--input ${values.input}: no such folder; ${layout}, or 'phantom'"]
    if( !folder.isDirectory() )
        return ["--input ${values.input}: not a folder; ${layout}"]
    if( !folder.resolve('dataset.json').exists() )
        return ["--input ${values.input}: no dataset.json in it; ${layout}"]
    def cases = case_count(values)
    if( cases == 0 )
        return ["--input ${values.input}: no training cases in it; ${layout}"]
    if( cases == 1 )
        return ["--input ${values.input}: one case only; a pool and a test set need more"]
    return []
}

// Number of cases in the input; null where that is not known.
def case_count(values) {
    if( is_phantom(values) )
        return values.phantom_cases
    values.input ? folder_cases(raw_folder(values)) : null
}

// With a strategy file that is not there, unknown names may be its own.
def strategy_list_errors(values) {
    def known = known_strategies(values.strategy_file)
    def sure = values.strategy_file == null || file(values.strategy_file).exists()
    def texts = strategy_texts(values.strategies)
    def strategies = texts.collect { text -> parse_strategy(text, known) }
    def parsed = strategies.findAll { strategy -> strategy }
    def checked = [texts, strategies].transpose().findAll { _text, strategy -> sure || strategy }.collect { text, _strategy -> text }
    def same = parsed.groupBy { strategy -> [strategy.base, strategy.options] }.values().findAll { group -> group.size() > 1 }
    def alike = parsed.groupBy { strategy -> file_name(strategy.name) }.values()*.name*.unique().findAll { names -> names.size() > 1 }
    (texts ? [] : ['--strategies: no strategy is named']) +
        checked.unique().collectMany { text -> strategy_errors('--strategies', text, known) } +
        same*.name*.unique().collect { names ->
            "--strategies: ${names.size() > 1 ? "${names.join(' and ')} are one strategy" : "${names[0]} is named twice"}; name it once"
        } +
        alike.collect { names -> "--strategies: ${names.join(' and ')} would have the same file names" } +
        (values.start_strategy && sure ? start_errors(values.start_strategy, known) : [])
}

def start_errors(text, known) {
    def starts = known.findAll { entry -> entry.start }
    def strategy = parse_strategy(text, known)
    if( strategy && !(strategy.base in starts*.name) )
        return ["--start_strategy ${text}: it needs a model, and there is none at the start; use one of ${starts*.name.join(', ')}"]
    strategy_errors('--start_strategy', text, starts)
}

def own_file_errors(values) {
    if( !values.strategy_file || !file(values.strategy_file).exists() )
        return []
    def where = "--strategy_file ${values.strategy_file}"
    def own = own_strategies(values.strategy_file)*.name
    def maps = own_maps(file(values.strategy_file).text)
    (own ? [] : ["${where}: no public function or class is defined in it"]) +
        (maps == null ? ["${where}: no line MAPS = [...] that names the maps it needs; write MAPS = [] for none"] : []) +
        (maps ?: []).findAll { name -> !(name in map_names()) }.collect { name ->
            "${where}: MAPS names '${name}'; did you mean '${nearest(name, map_names())}'?"
        } +
        own.intersect(strategy_registry()*.name).collect { name ->
            "${where}: '${name}' is the name of a built-in strategy; take another"
        }
}

// Sizes that do not go together: patches for the folds, cases for the folds, what the pool can give in one query.
def budget_errors(values) {
    def seeds = values.seeds ? seed_list(values.seeds) : []
    def twice = seeds.countBy { seed -> seed }.findAll { _seed, times -> times > 1 }.keySet()
    def few = values.folds && values.start_size && values.start_size < values.folds
    twice.collect { seed -> "--seeds: ${seed} is named twice; name it once" } +
        (few ? ["--start_size ${values.start_size}: ${values.folds} folds need at least one patch each (--folds)"] : []) +
        pool_errors(values, case_count(values))
}

// Where patients are grouped, the pool may be larger than test_fraction leaves it.
def pool_errors(values, cases) {
    if( !cases || cases < 2 || !values.test_fraction )
        return []
    def grouped = is_phantom(values) || values.groups || values.group_pattern
    def pool = cases - (grouped ? 1 : Math.max(1, Math.round(values.test_fraction * cases as double)))
    if( pool < 1 )
        return ["--test_fraction ${values.test_fraction}: it leaves none of ${cases} cases for the pool"]
    def whole = values.patch_size == 'whole_image'
    def each = whole ? 1 : values.patches_per_image ?: 0
    def most = pool * each
    def large = ['start_size', 'query_size'].findAll { name -> values[name] && most && values[name] > most }
    (values.folds && values.folds > pool ? ["--folds ${values.folds}: more folds than cases; the pool has ${pool} of ${cases} cases"] : []) +
        large.collect { name ->
            "--${name} ${values[name]}: the pool can give ${most} patches at most, ${each} of each of ${pool} cases (${whole ? '--patch_size whole_image' : '--patches_per_image'})"
        }
}

// Folders that must take files; --plan writes none.
def place_errors(values) {
    (values.plan ? [] : ['outdir', 'checkpoint_store'])
        .findAll { name -> values[name] && !values[name].contains('://') }
        .collect { name -> unwritable(file(values[name]), "--${name} ${values[name]}") }
        .findAll { line -> line }
}

// A task of the Decathlon that there is not.
def task_errors(values) {
    def names = decathlon_tasks() + decathlon_tasks().collect { task -> without_number(task) }
    def near = nearest("${values.input}" - 'msd:', names)
    ["--input ${values.input}: the Decathlon has no task of that name; did you mean msd:${near}?"]
}

// DOWNLOAD runs on this machine, so its folder must be here.
def download_errors(values) {
    if( values.plan )
        return []
    def where = "--download_dir ${values.download_dir}"
    if( "${values.download_dir}".contains('://') )
        return ["${where}: a folder of this machine is wanted"]
    [unwritable(download_folder(values), where)].findAll { line -> line }
}
