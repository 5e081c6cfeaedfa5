/*
 * The plan: what is to be run, as rows of one (data set, regime) each, and all that is counted or named from it.
 *
 * A row holds the typed parameters, with `strategies` and `seeds` as lists and the names and files made whole.
 * A node is a trained ensemble, a trajectory asks for the labels of one cycle; both are maps of
 * [id, dataset, regime, seed, cycle, strategy]. At cycle 0 all strategies share one node, whose strategy is ''.
 */
include { nearest } from './parameters.nf'
include { map_names ; own_maps ; own_strategies ; parse_strategy ; strategy_errors ; strategy_registry ; strategy_texts } from './strategies.nf'

// Rows of the plan from typed parameters that `plan_errors` found nothing wrong with.
def plan_rows(values) {
    def known = known_strategies(values)
    [
        values + [
            dataset: dataset_name(values),
            patch_size: values.patch_size.replaceAll(/\s/, ''),
            stride: values.stride.replaceAll(/\s/, ''),
            train_patch_size: values.train_patch_size?.replaceAll(/\s/, ''),
            seeds: seed_list(values.seeds),
            start: parse_strategy(values.start_strategy, known),
            strategies: strategy_texts(values.strategies).collect { text -> parse_strategy(text, known) },
            store: file(values.checkpoint_store).toUriString(),
        ]
    ]
}

def known_strategies(values) {
    strategy_registry() + own_strategies(values.strategy_file)
}

// Without --dataset, the input's own name.
def dataset_name(values) {
    def name = is_phantom(values) ? values.input : file(values.input).name
    values.dataset ?: file_name(name)
}

def is_phantom(values) {
    values.input ==~ /phantom(:\w+)?/
}

def seed_list(text) {
    text.split(',').collect { part -> part.trim() as Integer }
}

// How many times labels come round: once for the start of each seed, and once for each later cycle of each strategy.
// The loop ends after this many, so it is counted here and nowhere else.
def annotation_rounds(plan) {
    plan.sum { row -> row.seeds.size() * (1 + row.strategies.size() * (row.cycles - 1)) }
}

// The row that a node or a trajectory belongs to.
def row_of(plan, meta) {
    plan.find { row -> row.dataset == meta.dataset && row.regime == meta.regime }
}

// Ids: <dataset>-<regime>-<strategy>-s<seed>, and -c<cycle> behind it for a node. Cycle 0 has no strategy in it.
def stem(row, strategy, seed) {
    [row.dataset, row.regime, strategy, "s${seed}".toString()].findAll { part -> part }.collect { part -> file_name(part) }.join('-')
}

// A text as part of a file name.
def file_name(text) {
    text.replaceAll(/[^A-Za-z0-9._-]/, '_')
}

def node_id(row, strategy, seed, cycle) {
    "${stem(row, cycle > 0 ? strategy : '', seed)}-c${cycle.toString().padLeft(2, '0')}".toString()
}

// The trajectories that ask for the first labels: one for each (data set, regime, seed).
def start_trajectories(plan) {
    plan.collectMany { row ->
        row.seeds.collect { seed ->
            [id: stem(row, '', seed), dataset: row.dataset, regime: row.regime, seed: seed, cycle: 0, strategy: row.start.name]
        }
    }
}

// The strategies that go on from a node: all at cycle 0, its own later, none after the last cycle.
def next_strategies(plan, node) {
    def row = row_of(plan, node)
    def strategies = node.cycle + 1 < row.cycles ? row.strategies : []
    strategies.findAll { strategy -> node.cycle == 0 || strategy.name == node.strategy }
}

// The trajectories that ask for the next cycle's labels: those that need a model (and its maps), or those that do not.
def next_trajectories(plan, node, needs_model) {
    next_strategies(plan, node).findAll { strategy -> strategy.needs_model == needs_model }.collect { strategy ->
        node + [id: stem(row_of(plan, node), strategy.name, node.seed), cycle: node.cycle + 1, strategy: strategy.name]
    }
}

// How many queries read the uncertainty maps that a trajectory's query reads: at cycle 1 they are those of a shared node.
def readers_of(plan, trajectory) {
    trajectory.cycle == 1 ? row_of(plan, trajectory).strategies.count { strategy -> strategy.needs_model } : 1
}

// The node that a trajectory's labels make.
def node_of(plan, trajectory) {
    def strategy = trajectory.cycle > 0 ? trajectory.strategy : ''
    trajectory + [id: node_id(row_of(plan, trajectory), strategy, trajectory.seed, trajectory.cycle), strategy: strategy]
}

// The strategy of a trajectory, as `parse_strategy` gives it.
def strategy_of(plan, trajectory) {
    def row = row_of(plan, trajectory)
    trajectory.cycle == 0 ? row.start : row.strategies.find { strategy -> strategy.name == trajectory.strategy }
}

// The maps that the strategies going on from a node ask for, sorted; none where PREDICT is not needed.
def maps_of(plan, node) {
    next_strategies(plan, node).collectMany { strategy -> strategy.maps }.unique().sort()
}

// Where a data set's table of cases goes in the results.
def case_table_name(plan, dataset) {
    plan*.dataset.unique().size() > 1 ? "cases_${dataset}.csv".toString() : 'cases.csv'
}

// design.json: what ANALYSE and REPORT need to know of the plan.
def design(plan) {
    [
        cycles: plan*.cycles.max(),
        folds: plan*.folds.max(),
        strategies: plan*.strategies.flatten().unique { strategy -> strategy.name }.collect { strategy ->
            strategy.subMap(['name', 'base', 'label', 'paper_name', 'oracle_aware', 'needs_model'])
        },
        groups: plan.collect { row ->
            row.subMap(['dataset', 'regime', 'start_size', 'query_size', 'patch_size', 'start_strategy'])
        },
        trajectories: plan.collectMany { row ->
            [row.strategies, row.seeds].combinations().collect { strategy, seed -> trajectory_design(row, strategy, seed) }
        },
    ]
}

def trajectory_design(row, strategy, seed) {
    def cycles = (0..<row.cycles).toList()
    [
        id: stem(row, strategy.name, seed),
        dataset: row.dataset,
        regime: row.regime,
        strategy: strategy.name,
        seed: seed,
        nodes: cycles.collect { cycle -> node_id(row, strategy.name, seed, cycle) },
        budgets: cycles.collect { cycle -> row.start_size + cycle * row.query_size },
    ]
}

// What cannot be run, one line each. Values that `parameter_errors` names are null here and passed over.
def plan_errors(values) {
    input_errors(values) + strategy_list_errors(values) + own_file_errors(values) + budget_errors(values) + place_errors(values)
}

def input_errors(values) {
    if( !values.input )
        return []
    def layout = 'an nnU-Net raw or a Decathlon folder is wanted'
    if( !is_phantom(values) && !file(values.input).exists() )
        return ["--input ${values.input}: no such folder; ${layout}, or 'phantom'"]
    if( !is_phantom(values) && !file(values.input).isDirectory() )
        return ["--input ${values.input}: not a folder; ${layout}"]
    if( !is_phantom(values) && !file("${values.input}/dataset.json").exists() )
        return ["--input ${values.input}: no dataset.json in it; ${layout}"]
    def cases = case_count(values)
    if( cases == 0 )
        return ["--input ${values.input}: no training cases in it; ${layout}"]
    if( cases == 1 )
        return ["--input ${values.input}: one case only; a pool and a test set need more"]
    return []
}

// Number of cases in the input: what dataset.json lists, or the files in labelsTr; null where that is not known.
def case_count(values) {
    if( is_phantom(values) )
        return values.phantom_cases
    if( !values.input || !file("${values.input}/dataset.json").exists() )
        return null
    def listed = listed_cases(file("${values.input}/dataset.json"))
    listed == null ? null : listed ?: files("${values.input}/labelsTr/[!.]*").size()
}

// Cases that dataset.json names itself (the Decathlon's `training`, nnU-Net's `dataset`); null where it is no JSON.
def listed_cases(path) {
    try {
        def head = new groovy.json.JsonSlurper().parseText(path.text)
        return head instanceof Map ? (head.training ?: head.dataset ?: []).size() : null
    }
    catch( Exception _error ) {
        return null
    }
}

// With a strategy file that is not there, unknown names may be its own.
def strategy_list_errors(values) {
    def known = known_strategies(values)
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

// Folders that must take files.
def place_errors(values) {
    ['outdir', 'checkpoint_store']
        .findAll { name -> values[name] && !values[name].contains('://') }
        .collect { name -> unwritable(file(values[name]), "--${name} ${values[name]}") }
        .findAll { line -> line }
}

// Tried in the nearest folder that exists, for permissions alone do not tell (root, read-only mounts).
def unwritable(path, where) {
    if( !path.exists() && path.parent != null )
        return unwritable(path.parent, where)
    try {
        java.nio.file.Files.delete(java.nio.file.Files.createTempFile(path, '.nnactive-nf-', '.tmp'))
        return null
    }
    catch( Exception _error ) {
        return "${where}: cannot write to ${path}; is it a folder, and may you write to it?"
    }
}
