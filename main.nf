#!/usr/bin/env nextflow
/*
 * nnactive-nf: active learning for the segmentation of 3D biomedical images.
 *
 * The entry: it checks the parameters, then tells what it was asked to tell (--help, --plan), tries the set-up (--preflight),
 * or runs the loop.
 */
include { tell_at_end } from './functions/common.nf'
include { plan_content } from './functions/forecast.nf'
include { end_text } from './functions/last_words.nf'
include { help_text ; parameter_errors ; typed_parameters } from './functions/parameters.nf'
include { preflight_table } from './functions/preflight_table.nf'
include { plan_rows } from './functions/references.nf'
include { cleanup_errors ; site_errors } from './functions/site.nf'
include { is_awaited ; is_phantom ; raw_folder } from './functions/sources.nf'
include { schedule_warnings ; study_errors ; study_rows ; typed_rows ; written_rows } from './functions/study.nf'
include { ACTIVE_LEARNING } from './workflows/active_learning.nf'
include { PLAN } from './workflows/forecast.nf'
include { PREFLIGHT ; preflight_notes } from './workflows/preflight.nf'

workflow {
    main:
    if( params.help ) {
        println help_text()
        return
    }
    def values = typed_parameters(params)
    if( params.preflight ) {
        refuse(parameter_errors(params + [input: params.input ?: 'phantom']) + site_errors(values) + (values.input && !is_phantom(values) ? study_errors(values) : []))
        def there = typed_rows(values).findAll { row -> row.input && !is_phantom(row) && !is_awaited(row) }
        def folders = there.collect { row -> "${raw_folder(row)}".toString() }.unique()
        def measured = there ? study_rows(values).findAll { row -> "${raw_folder(row)}".toString() in folders } : []
        def seen = preflight_notes(values, measured)
        PREFLIGHT(values, folders, plan_content(plan_rows(measured)), seen)
        workflow.onComplete = {
            tell_at_end(preflight_table(seen))
        }
        return
    }
    refuse(parameter_errors(params) + study_errors(values) + cleanup_errors(values) + (values.plan ? [] : site_errors(values)))
    def rows = study_rows(values)
    def plan = plan_rows(rows)
    if( values.plan ) {
        def told = new java.util.concurrent.ConcurrentHashMap()
        PLAN(plan_content(plan), values, told)
        workflow.onComplete = {
            if( told.text )
                tell_at_end(told.text)
        }
        return
    }
    schedule_warnings(values, rows).each { line -> log.warn(line) }
    def told = ['evaluated', 'awaited', 'stopped'].collectEntries { name -> [name, new java.util.concurrent.ConcurrentHashMap()] }
    ACTIVE_LEARNING(plan, values, values + written_rows(values), told)

    workflow.onComplete = {
        tell_at_end(end_text(plan, values, told))
    }
}

// Ends the run before its first task where there are errors, one line each.
def refuse(errors) {
    if( errors ) {
        error(errors.collect { line -> "ERROR: ${line}" }.join('\n'))
    }
}
