/*
 * PEOPLE: a query's patches go to people, and what they have labelled comes back. A run hands out what is to be labelled and
 * ends; one with -resume takes what has come back meanwhile, and goes on where a query is complete.
 */
include { code_digest ; folder_digest } from '../functions/common.nf'
include { kept_file } from '../functions/given.nf'
include { by_people ; delivery_folder ; disagreement_settings ; double_read_settings ; handed_out ; handed_out_tables ; outside_settings ; package_folder } from '../functions/people.nf'
include { node_of ; row_of } from '../functions/plan.nf'
include { HAND_OUT } from '../modules/hand_out.nf'
include { RECEIVE } from '../modules/receive.nf'

workflow PEOPLE {
    take:
    plan // rows, see functions/plan.nf
    values // all parameters
    queried // [trajectory, query, patches for refused ones or [], uncertainty maps or [], prepared folder, raw folder, memory by stage]

    main:
    asked = queried.filter { trajectory, _query, _reserve, _maps, _images, _raw, _need -> by_people(row_of(plan, trajectory)) }
        .branch { trajectory, _query, _reserve, _maps, _images, _raw, _need ->
            again: handed_out(values, node_of(plan, trajectory))
            first: true
        }

    // [trajectory, settings, prepared folder, raw folder, query, patches for refused ones, uncertainty maps or [], memory]
    packages = asked.first.map { trajectory, query, reserve, maps, images, raw, need ->
        def node = node_of(plan, trajectory)
        def settings = [strategy: trajectory.strategy, cycle: trajectory.cycle, delivery: delivery_folder(values, node), out: package_folder(node)] +
            double_read_settings(values, trajectory)
        [trajectory, settings, images, raw, query, reserve, maps, need.export]
    }
    HAND_OUT(packages, code_digest('hand_out'))

    // [trajectory, query, patches for refused ones or [], prepared folder, memory by stage, tables of the package]: once it is all in its place
    out = asked.again.map { trajectory, query, reserve, _maps, images, _raw, need ->
            def tables = handed_out_tables(values, node_of(plan, trajectory)).collect { path -> kept_file(path, path.name) }
            [trajectory, query, reserve, images, need, tables]
        }
        .mix(asked.first.map { trajectory, query, reserve, _maps, images, _raw, need -> [trajectory, query, reserve, images, need] }.join(HAND_OUT.out.tasks))

    // [trajectory, node, settings, prepared folder, query, patches for refused ones or [], folder of deliveries or [], state of its files, tables of the package, memory]
    deliveries = out.map { trajectory, query, reserve, images, need, tables ->
        def node = node_of(plan, trajectory)
        def folder = file(delivery_folder(values, node))
        def there = folder.isDirectory()
        [trajectory, node, [node: node.id, partial: values.accept_partial ?: null] + outside_settings(values) + disagreement_settings(values), images, query, reserve, there ? folder : [], there ? folder_digest(folder) : '', tables, need.receive]
    }
    RECEIVE(deliveries, code_digest('receive'))

    emit:
    answers = RECEIVE.out.answers // [trajectory, patches that are labelled, their masks]
    agreement = RECEIVE.out.agreement // tables of patches that several people have read
}
