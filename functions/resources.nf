/*
 * Memory that tasks ask for, by what CHECK says that their data need (bin/nnactive_nf/check/memory.py). What a process
 * asks for itself, here, gives way to a site's `withLabel` and `withName`. How this machine's GPUs are shared, and where trainings
 * write while they run.
 */

// What CHECK found, [stage: [bytes, each]]; zeros where its file is empty (-stub-run).
def needs_of(path) {
    def told = path.size() ? new groovy.json.JsonSlurper().parse(path).memory : [:]
    ['prepare', 'train', 'predict', 'evaluate', 'query', 'views', 'annotate', 'export', 'receive', 'measure'].collectEntries { stage ->
        [stage, ['bytes', 'each'].collectEntries { name -> [name, (told[stage]?.get(name) ?: 0) as long] }]
    }
}

// What a task needs, `times` over what is needed for each, in whole GB: no less than `least`, more at each attempt. On this
// machine a task that asks for more than there is would end the run, so there it asks for all of it.
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
