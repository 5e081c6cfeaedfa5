/*
 * The last words of a run: that it is done, what people are to do, or why it has failed.
 */
include { delivery_folder ; package_folder } from './people.nf'
include { annotation_rounds ; node_ids ; not_made } from './plan.nf'

// What a run has not replaced in the results is told too: an earlier run's report, or nodes that are no longer in the plan.
// Nextflow's message of a run that was stopped is the signal's name.
def end_text(plan, values, told) {
    def outdir = values.outdir
    if( workflow.success && told.awaited )
        return waiting_text(plan, values, told)
    if( workflow.success )
        return lost_text(plan, told) ?: (["Done. The report is ${file(outdir)}/report.html"] + stop_lines(told) + left_over(plan, outdir, told)).join('\n')
    def report = file("${outdir}/report.html")
    def old = report.exists() && report.lastModified() < workflow.start.toInstant().toEpochMilli() ? " Until then ${report} is an earlier run's." : ''
    if( workflow.errorMessage ==~ /SIG[A-Z]+/ )
        return 'The run was stopped. The same command with -resume goes on from there.' + old
    (['The run has failed. Mend what the message says, then run the same command with -resume: it goes on from there.' + old] + reasons()).join('\n')
}

// What the failed task itself says is wrong, which stands in the middle of Nextflow's message of it.
def reasons() {
    (workflow.errorReport ?: '').readLines()*.trim().findAll { line -> line.startsWith('ERROR: ') }.unique()
}

// What is wrong with a run in which no task was a fault, or nothing: a failed one was passed over, by a configuration in
// which that was not to be seen beforehand.
def lost_text(plan, told) {
    def lost = node_ids(plan) - told.evaluated.keySet() - not_made(plan, told.awaited) - not_made(plan, told.stopped)
    lost ? "The run has failed: a failed task was passed over, and errorStrategy must not do that ('ignore'). ${lost.size()} of ${annotation_rounds(plan)} ensembles were not evaluated: ${some(lost)}" : ''
}

// When and why trajectories have stopped before the plan's end, a line for each of the first ones.
def stop_lines(told) {
    def stops = told.stopped.values().sort { stop -> stop.node.id }
    def lines = stops.take(5).collect { stop -> "${trajectory_of(stop.node)} has stopped after cycle ${stop.node.cycle - 1}: ${stop.why}" }
    lines + (stops.size() > 5 ? ["and ${stops.size() - 5} more have stopped: tables/stopped.csv"] : [])
}

def trajectory_of(node) {
    node.id.replaceFirst(/-c\d+$/, '')
}

// What people are to do before the run can go on.
def waiting_text(plan, values, told) {
    def waits = told.awaited.values().sort { wait -> wait.node.id }.collectMany { wait ->
        def folder = file("${values.outdir}/${package_folder(wait.node)}")
        ["${wait.missing} of ${wait.patches} patches of cycle ${wait.node.cycle} are to be labelled: ${folder}/README.md",
         "  put the files in ${file(delivery_folder(values, wait.node))}; what is missing or wrong stands in ${folder}/deliveries.csv"]
    }
    ([lost_text(plan, told) ?: 'The run waits for labels.'] + waits + stop_lines(told) + ['Then run the same command with -resume.']).join('\n')
}

// A line that names nodes of earlier runs whose files stand beside this run's; none where there are none.
def left_over(plan, outdir, told) {
    def old = files("${outdir}/metrics/*.json")*.baseName.sort() - (node_ids(plan) - not_made(plan, told.stopped))
    old ? ["Beside it ${outdir} still holds ensembles of earlier runs, which it leaves out: ${some(old)}"] : []
}

def some(names) {
    names.take(5).join(', ') + (names.size() > 5 ? ', ..' : '')
}
