/*
 * Checks of what must be known before the first task: parameters against each other, names of strategies, places for data
 * and results. Settings against the data, options of strategies, and the data themselves are the stage CHECK's.
 */
include { unwritable } from './common.nf'
include { test_case_errors } from './given.nf'
include { known_strategies ; name_error ; nearest ; number_list ; parameter_schemas ; strategy_entry ; strategy_texts } from './parameters.nf'
include { annotator_names ; by_people ; start_by_people } from './people.nf'
include { decathlon_task ; decathlon_tasks ; download_folder ; is_awaited ; is_phantom ; raw_folder ; without_number } from './sources.nf'

// What is wrong with one (data set, regime).
def row_errors(values) {
    input_errors(values) + test_case_errors(values) + strategy_list_errors(values) + budget_errors(values) + start_errors(values) + planner_errors(values)
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
    return []
}

def strategy_list_errors(values) {
    def known = known_strategies(values.strategy_file)
    def texts = strategy_texts(values.strategies)
    def unknown = texts.unique().collect { text -> name_error('--strategies', text, known) }
    def start = values.start_strategy ? start_error(values.start_strategy, known) : null
    (texts ? [] : ['--strategies: no strategy is named']) + (unknown + start).findAll { line -> line }
}

def start_error(text, known) {
    def starts = known.named.findAll { _name, entry -> entry.start }.keySet()
    def entry = strategy_entry(text, known)
    entry && !entry.start
        ? "--start_strategy ${text}: it needs a model, and there is none at the start; use one of ${starts.join(', ')}"
        : name_error('--start_strategy', text, [named: known.named.subMap(starts), own: known.own])
}

// A plan that is given is not planned.
def planner_errors(values) {
    values.plans && values.planner != parameter_schemas().planner.default
        ? ["--planner ${values.planner}: --plans ${values.plans} is a plan already; leave one of them out"]
        : []
}

// What is wrong with how a row's trainings start.
def start_errors(values) {
    values.warm_epochs && values.training_start == 'scratch'
        ? ["--warm_epochs ${values.warm_epochs}: no training goes on from another; add --training_start previous or shrink_perturb"]
        : []
}

// Numbers that do not go together, whatever the data.
def budget_errors(values) {
    def seeds = values.seeds ? number_list(values.seeds) : []
    def queries = values.query_size ? number_list(values.query_size).size() : 1
    def twice = seeds.countBy { seed -> seed }.findAll { _seed, times -> times > 1 }.keySet()
    def few = values.folds && values.start_size && values.start_size < values.folds
    twice.collect { seed -> "--seeds: ${seed} is named twice; name it once" } +
        (queries in [1, (values.cycles ?: 0) - 1] || !values.cycles ? [] : ["--query_size ${values.query_size}: ${values.cycles} cycles have ${values.cycles - 1} queries; give one number for all, or one for each"]) +
        (few ? ["--start_size ${values.start_size}: ${values.folds} folds need at least one patch each (--folds)"] : [])
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

// What does not go together with people who label, one line each.
def people_errors(values) {
    if( !by_people(values) )
        return ['annotations', 'accept_outside', 'double_read', 'blind', 'disagreement', 'annotators'].findAll { name -> values[name] }.collect { name -> "--${name}: it is for --oracle people" }
    def known = known_strategies(values.strategy_file)
    def row = values + start_by_people(values)
    def aware = (strategy_texts(row.strategies).collect { text -> ['--strategies', text] } + [['--start_strategy', row.start_strategy]])
        .findAll { _name, text -> text && strategy_entry(text, known)?.oracle_aware }
    aware.collect { name, text -> "${name} ${text}: it looks at labels that people have yet to make; name another" } +
        ['full_reference', 'cleanup_work'].findAll { name -> values[name] }.collect { name -> "--${name}: not with --oracle people" } +
        several_errors(values)
}

// What does not go together where several people label.
def several_errors(values) {
    def by_rank = values.disagreement == 'rank'
    def twice = values.annotators ? annotator_names(values).countBy { name -> name }.findAll { _name, times -> times > 1 }.keySet() : []
    (values.blind && !values.double_read ? ['--blind: a share of what --double_read names; give that too'] : []) +
        (by_rank && !values.annotators ? ['--disagreement rank: whose word counts? Name the annotators, first who counts most: --annotators ann,ben'] : []) +
        (!by_rank && values.annotators ? ['--annotators: it is for --disagreement rank'] : []) +
        twice.collect { name -> "--annotators: ${name} stands in it twice" }
}
