/*
 * PLAN: --plan, which tells what a run would take. Nothing of the run itself is started; of a phantom, whose images nobody
 * has yet, some are made, where tasks of its label run.
 */
include { code_digest ; json } from '../functions/common.nf'
include { planned_rows ; plans_of_datasets } from '../functions/given.nf'
include { uncertainty_format } from '../functions/published.nf'
include { phantom_settings } from '../functions/sources.nf'
include { FORECAST } from '../modules/forecast.nf'
include { PHANTOM } from '../modules/phantom.nf'

workflow PLAN {
    take:
    plan // rows and nodes, see functions/forecast.nf
    values // all parameters
    told // a map that gets the text

    main:
    def datasets = plan.rows.unique(false) { row -> row.dataset }
    def phantoms = datasets.findAll { row -> row.source == 'phantom' }.collect { row -> [row.dataset, some_cases(phantom_settings(row))] }
    def folders = datasets.findAll { row -> is_here(row) }.collect { row -> [row.dataset, file(row.folder)] }
    PHANTOM(channel.fromList(phantoms), code_digest('phantom'))

    // [[dataset, raw folder], ...] of all data sets that are there
    there = channel.fromList(folders)
        .mix(PHANTOM.out.map { dataset, folder, _groups -> [dataset, folder] })
        .toSortedList { a, b -> a[0] <=> b[0] }
    FORECAST(
        channel.of(['plan.json', json(plan)]).collectFile(),
        there.map { pairs -> pairs.collect { dataset, _folder -> dataset } },
        there.map { pairs -> pairs.collect { _dataset, folder -> folder } },
        values.plan_trace ? file(values.plan_trace) : [],
        values.plan_from ? file(values.plan_from) : [],
        planned_rows(plan.rows).collect { row -> file(row.plans) },
        values.strategy_file ? file(values.strategy_file) : [],
        values.subMap(['plan_trace', 'plan_from', 'plan_minutes', 'plan_gpus', 'publish_mode', 'publish_models']) +
            [plans: plans_of_datasets(plan.rows), publish_uncertainty: uncertainty_format(values) == 'hdf5', shown_strategy_file: values.strategy_file],
    )
    FORECAST.out[0].map { text -> told.text = text.trim() }
    FORECAST.out[1].subscribe { errors ->
        def lines = errors.readLines().findAll { line -> line.startsWith('ERROR: ') }
        if( lines )
            error(lines.join('\n'))
    }
}

// Folders of this machine: those of others would have to be copied first.
def is_here(row) {
    row.source == 'folder' && !row.folder.contains('://') && file(row.folder).isDirectory()
}

// A phantom's first cases are the same for any number of them.
def some_cases(settings) {
    settings + [cases: Math.min(settings.cases, 200)]
}
