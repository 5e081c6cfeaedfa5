/*
 * PREFLIGHT: what the chosen profile promises is tried where the tasks will run, by one small task for each label, and
 * told in a table: what holds, what does not, on which node, and what to do about it.
 *
 * Where there are data, CHECK looks at them, and a last task times some iterations of each kind of training in the plan.
 *
 * A task that fails ends nothing: the others go on, and the table says why it failed (preflight_table.nf). All that is
 * known stands in one map, `seen`, that an errorStrategy fills too.
 */
include { code_digest ; json ; needs_of ; unwritable } from '../functions/common.nf'
include { check_input ; raw_files } from '../functions/data_settings.nf'
include { given_files ; kept_file ; planned_rows ; plans_of_datasets ; trainer_of } from '../functions/given.nf'
include { preflight_lines ; task_checks ; task_labels } from '../functions/preflight_table.nf'
include { CHECK } from '../modules/check.nf'
include { PREFLIGHT_FOLDERS } from '../modules/preflight_folders.nf'
include { PREFLIGHT_GPU } from '../modules/preflight_gpu.nf'
include { PREFLIGHT_MEASURE } from '../modules/preflight_measure.nf'
include { PREFLIGHT_PYTHON } from '../modules/preflight_python.nf'

workflow PREFLIGHT {
    take:
    values // all parameters
    inputs // folders of data sets, or none
    plan // rows and nodes of the data sets that are there, see functions/forecast.nf
    seen // of `preflight_notes`

    main:
    leave_marks(values, inputs, seen)
    PREFLIGHT_PYTHON(seen, task_settings('PREFLIGHT_PYTHON', values, inputs, seen), file("${projectDir}/containers/requirements.txt"))
    PREFLIGHT_FOLDERS(seen, task_settings('PREFLIGHT_FOLDERS', values, inputs, seen), seen.marker, inputs.collect { path -> file(path) }.findAll { path -> path.exists() })
    PREFLIGHT_GPU(seen, task_settings('PREFLIGHT_GPU', values, inputs, seen), seen.marker)
    tried = PREFLIGHT_PYTHON.out.map { text -> ['PREFLIGHT_PYTHON', text] }
        .mix(PREFLIGHT_FOLDERS.out.map { text -> ['PREFLIGHT_FOLDERS', text] }, PREFLIGHT_GPU.out.map { text -> ['PREFLIGHT_GPU', text] })

    // [bytes, each] of memory, of the data set that needs the most, once all have passed CHECK and all else is tried: nothing
    // runs beside what is timed
    def datasets = plan.rows.groupBy { row -> row.dataset }
    def kept = given_files(plan.rows).collectEntries { path -> [path, kept_file(path)] }
    CHECK(channel.fromList(datasets.collect { dataset, rows -> check_input(dataset, rows, raw_files(rows[0], rows[0].folder), kept) }), code_digest('check'))
    need = CHECK.out.map { _dataset, file -> needs_of(file).measure }.toList().filter { needs -> needs }
        .map { needs -> needs.max { one -> one.bytes } }
        .combine(tried.count())
        .map { most, _count -> most }
    PREFLIGHT_MEASURE(
        seen,
        [device: values.device, plans: plans_of_datasets(plan.rows)],
        channel.of(['plan.json', json(plan)]).collectFile(),
        datasets.keySet().toList(),
        datasets.values().collect { rows -> file(rows[0].folder) },
        planned_rows(plan.rows).collect { row -> file(row.plans) },
        plan.rows ? trainer_of(plan.rows[0]) : [],
        need,
    )

    tried.mix(PREFLIGHT_MEASURE.out[0].map { text -> ['PREFLIGHT_MEASURE', text] })
        .map { name, text -> seen.tasks[name] = [text: text, at: System.currentTimeMillis()] }
        .toList()
        .subscribe { _all ->
            // if not every task has come to its end, the run has failed already
            def whole = seen.tasks.size() == task_labels(seen).size() && !seen.tasks.values().any { noted -> noted.fatal }
            def faults = whole ? preflight_lines(seen).count { line -> line.state == 'FAULT' } : 0
            if( faults )
                error("Preflight: ${faults} ${faults == 1 ? 'fault' : 'faults'}, see the table.")
        }
}

// What is known before the first task.
def preflight_notes(values, rows) {
    def token = workflow.runName
    def store = file(values.checkpoint_store)
    [
        measured: !rows.isEmpty(), // whether trainings are timed
        token: token, // stands in the files that launcher and tasks leave for each other
        node: ['uname', '-n'].execute().text.trim(), // of the launcher
        started: System.currentTimeMillis(),
        marker: workflow.workDir.resolve("preflight-${token}").resolve('marker'),
        store_marks: ['launcher', 'task'].collect { who -> store.resolve(".nnactive-nf-preflight-${who}-${token}") },
        patience: 10, // seconds until a file of another node must be seen here
        launcher: [], // lines of the table: what the launcher has tried itself
        tasks: new java.util.concurrent.ConcurrentHashMap(), // process -> [text, at], or [exit, folder, at, executor, fatal]
        table: new java.util.concurrent.ConcurrentHashMap(), // the table's lines, once they are made
    ]
}

// What a task is told of the run.
def task_settings(name, values, inputs, seen) {
    [
        checks: task_checks(name).findAll { check -> check != 'input' || inputs },
        token: seen.token,
        device: values.device,
        store: file(values.checkpoint_store).toUriString(),
        engine: workflow.containerEngine,
    ]
}

// The launcher's part: its own folders, and files for the tasks to read.
def leave_marks(values, inputs, seen) {
    def outdir = file(values.outdir)
    def mark = seen.store_marks[0]
    def tried = [
        ['work folder', "${workflow.workDir.toUriString()}: written", writing_problem(seen.marker, seen.token), '-work-dir'],
        ['results folder', "${outdir.toUriString()}: can be written", unwritable(outdir, '--outdir'), '--outdir'],
        ['checkpoint store', "${mark.parent.toUriString()}: written", writing_problem(mark, seen.token), '--checkpoint_store'],
    ] + inputs.collect { path ->
        ['input', "${path}: is there", file("${path}/dataset.json").exists() ? null : "${path}: no folder with a dataset.json in it", '--input']
    }
    tried.each { check, good, problem, option ->
        def remedy = problem ? "name another folder by ${option}, or see to it that you may use this one" : ''
        seen.launcher << [state: problem ? 'FAULT' : 'ok', check: check, where: "${seen.node} (launcher)", what: problem ?: good, remedy: remedy]
    }
}

// What keeps a file from being written, or null.
def writing_problem(path, text) {
    try {
        path.parent.mkdirs()
        path.text = text
        return null
    }
    catch( Exception _error ) {
        return "${path.parent.toUriString()}: cannot be written"
    }
}
