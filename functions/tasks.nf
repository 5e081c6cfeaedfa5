/*
 * What processes share: a task's command line, its labels for the cost reports of clouds, its memory, and its part of this
 * machine's GPUs.
 */

// A map of settings as command line options: a name's _ becomes -, true is --name, false --no-name, null is left out, and a
// list gives the option once for each of its values.
def options(settings) {
    settings.findAll { _name, value -> value != null }.collectMany { name, value -> value instanceof List ? value.collect { one -> [name, one] } : [[name, value]] }.collect { name, value ->
        def option = name.replace('_', '-')
        value == true ? "--${option}" : value == false ? "--no-${option}" : "--${option} ${quoted(value)}"
    }.join(' ')
}

// A value as one word of bash.
def quoted(value) {
    def text = value.toString()
    text ==~ /[\w.,:=\/%+@-]+/ ? text : "'" + text.replace("'", "'\\''") + "'"
}

// An option with a file that may be missing (`[]`).
def file_option(name, path) {
    path ? "${name} ${quoted(path)}" : ''
}

// Numerical libraries take this many threads, not as many as the machine has.
def thread_limits(threads) {
    "export OMP_NUM_THREADS=${threads} MKL_NUM_THREADS=${threads} OPENBLAS_NUM_THREADS=${threads}"
}

// Labels of a task, by which AWS Batch, Google Batch and Kubernetes group costs (other executors take no notice): pipeline,
// stage, and the given ones (maps, null is left out), with a site's own (ext.resource_labels) last. Azure Batch makes a pool
// of machines for each set of labels, so there they are the same for all tasks.
def labels_of(task, given) {
    def own = [pipeline: workflow.manifest.name, stage: task.process.tokenize(':').last()] + given
    def kept = task.executor == 'azurebatch' ? own.subMap(['pipeline']) : own
    kept.findAll { _name, value -> value != null }.collectEntries { name, value -> [name, label_text(value)] } + (task.ext.resource_labels ?: [:])
}

// Data set, regime, strategy, seed and cycle of a node or a trajectory. All strategies share a start.
def where(meta) {
    meta.subMap(['dataset', 'regime', 'seed', 'cycle']) + [strategy: meta.strategy ?: 'start']
}

// What all these clouds allow: lower case letters, digits, - and _, a letter or digit at both ends, at most 63 of them. A
// longer text ends with a digest of it all.
def label_text(value) {
    def text = value.toString().toLowerCase()
    def allowed = text.replaceAll(/[^a-z0-9_-]+/, '-').replaceAll(/^[_-]+|[_-]+$/, '')
    allowed.size() <= 63 ? allowed : allowed.take(54).replaceAll(/[_-]+$/, '') + '-' + text.md5().take(8)
}

// Memory of a task by what CHECK says that its data need (bin/nnactive_nf/check/memory.py), `times` over what is needed for
// each, in whole GB: no less than `least`, more at each attempt. On this machine a task that asks for more than there is
// would end the run, so there it asks for all of it. What a process asks for so gives way to a site's `withLabel`, `withName`.
def memory_of(task, least, need = [bytes: 0, each: 0], times = 0) {
    def whole = Math.ceil((need.bytes + times * need.each) / 1.GB.toBytes()) as long
    def memory = 1.GB * Math.max(least, whole) * task.attempt
    task.executor == 'local' ? [memory, 1.B * memory_here()].min() : memory
}

// Bytes of memory that this machine, or the container that it is, has.
def memory_here() {
    java.lang.management.ManagementFactory.operatingSystemMXBean.totalMemorySize as long
}

// On this machine, where no scheduler gives GPUs out, tasks lease them (bin/nnactive_nf/core/gpu_lease.py). The variable is
// no part of what -resume goes by.
def gpu_share(task) {
    task.executor == 'local' ? "export NNACTIVE_TASKS_PER_GPU=${task.ext.tasks_per_gpu}" : ''
}

// The folder into which trainings write for TensorBoard (conf/containers.config). Nor is it a part of that.
def tensorboard_option(task) {
    task.ext.tensorboard ? "--tensorboard ${task.ext.tensorboard}" : ''
}
