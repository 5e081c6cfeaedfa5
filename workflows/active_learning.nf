/*
 * ACTIVE_LEARNING: the loop. It begins at QUERY with nothing labelled, and ANNOTATE's labels come back by a topic as the
 * input of TRAIN; the topic is read for as many messages as the plan holds, which is what ends it (docs/design.md).
 *
 * Nodes (trained ensembles) and trajectories are maps of [id, dataset, regime, seed, cycle, strategy], see
 * functions/plan.nf. They are the keys by which channels are joined.
 */
include { code_digest ; json ; needs_of ; with_dataset } from '../functions/common.nf'
include { check_input ; prepare_settings ; raw_files } from '../functions/data_settings.nf'
include { case_table_name ; design } from '../functions/design.nf'
include { given_files ; kept_file ; trainer_of ; weights_files } from '../functions/given.nf'
include { by_people ; handed_out ; handed_out_reserve ; has_test_set ; kept_plans } from '../functions/people.nf'
include { annotation_rounds ; goes_on ; is_gone_on_from ; is_warm ; map_sets ; next_trajectories ; node_before ; node_of ; owed_nodes ; readers_of ; reference_nodes ; row_of ; start_nodes ; start_trajectories ; strategy_of ; warm_trainings } from '../functions/plan.nf'
include { annotate_settings ; evaluate_settings ; predict_settings ; query_settings ; train_settings ; views_settings } from '../functions/settings.nf'
include { download_folder ; download_inputs ; is_awaited ; is_phantom ; phantom_settings ; raw_folder } from '../functions/sources.nf'
include { DOWNLOAD } from '../modules/download.nf'
include { PHANTOM } from '../modules/phantom.nf'
include { CHECK } from '../modules/check.nf'
include { PREPARE } from '../modules/prepare.nf'
include { QUERY } from '../modules/query.nf'
include { VIEWS } from '../modules/views.nf'
include { ANNOTATE } from '../modules/annotate.nf'
include { TRAIN } from '../modules/train.nf'
include { PREDICT } from '../modules/predict.nf'
include { EVALUATE } from '../modules/evaluate.nf'
include { ANALYSE } from '../modules/analyse.nf'
include { REPORT } from '../modules/report.nf'
include { PROTOCOL } from '../modules/protocol.nf'
include { CLEANUP } from './cleanup.nf'
include { PEOPLE } from './people.nf'
include { PRODUCTS } from './products.nf'
include { PROGRESS } from './progress.nf'
include { STOPS } from './stops.nf'

workflow ACTIVE_LEARNING {
    take:
    plan // rows, see functions/plan.nf
    values // all parameters
    written // the same with a study table's rows as they are written, for the run's protocol
    told // maps that PROGRESS fills

    main:
    shared_folders(plan, values).each { folder -> folder.mkdirs() } // containers mount them
    def kept = ([null] + given_files(plan)).collectEntries { path -> [path, kept_file(path)] } // each is read once

    // [dataset, rows], once per data set
    datasets = channel.fromList(plan.groupBy { row -> row.dataset }.collect { dataset, rows -> [dataset, rows] })
        .branch { _dataset, rows ->
            phantom: is_phantom(rows[0])
            awaited: is_awaited(rows[0])
            folder: true
        }
    PHANTOM(datasets.phantom.map { dataset, rows -> [dataset, phantom_settings(rows[0])] }, code_digest('phantom'))
    DOWNLOAD(datasets.awaited.map { dataset, rows -> [dataset] + download_inputs(rows[0]) })

    // [dataset, rows, raw folder, table of patients or [], folder of free masks or [], state of the folders]
    raw = datasets.folder.map { dataset, rows -> [dataset, rows, raw_folder(rows[0])] }
        .mix(datasets.awaited.join(DOWNLOAD.out))
        .map { dataset, rows, folder -> [dataset, rows] + raw_files(rows[0], folder) }
        .mix(
            datasets.phantom.join(PHANTOM.out).map { dataset, rows, folder, groups ->
                [dataset, rows, folder, groups, [], '']
            }
        )
    checked = raw.map { dataset, rows, folder, groups, free, state -> check_input(dataset, rows, [folder, groups, free, state], kept) }
    CHECK(checked, code_digest('check'))

    // [dataset, memory by stage], once all data sets have passed: none is worked on while another may still be refused
    needs = CHECK.out.map { dataset, file -> [dataset, needs_of(file)] }.toList().flatMap { all -> all }
    wanted = raw.map { dataset, rows, folder, groups, free, state ->
        def before = kept_file(kept_plans(values, dataset, start_nodes(rows), state))
        [dataset, prepare_settings(rows), folder, groups, free, state, kept.get(rows[0].plans), before, weights_files(rows).collect { path -> file(path) }]
    }
    PREPARE(wanted.join(needs.map { dataset, need -> [dataset, need.prepare] }), code_digest('prepare'))

    // [dataset, prepared folder, whole masks of the pool, whole masks of the test set, memory by stage]
    prepared = PREPARE.out.prepared.join(needs)

    // [node, label masks] as ANNOTATE sends them round, up to the last that the plan holds. Nextflow's manual says that a
    // process must not feed a topic that it reads, or the run hangs, since such a topic never closes. Here `take` closes
    // it: its number must be right, and no task may be passed over (functions/site.nf). RECEIVE's word that people are
    // awaited, a table, stands for all that cannot be made until then, and STOP's for all that is not to be made.
    rounds = channel.topic('labels')
        .flatMap { node, file -> file.name.endsWith('.h5') ? [[node, file]] : owed_nodes(plan, node).collect { owed -> [owed, file] } }
        .take(annotation_rounds(plan))
        .branch { _node, file ->
            made: file.name.endsWith('.h5')
            stopped: file.parent.name == 'stopped'
            awaited: true
        }
    labels = rounds.made

    // [node, fold, settings, prepared folder, label masks, the user's trainer or [], given folds or [], the user's weights or [],
    // folder of the fold to go on from or [], memory], one task each
    folds = with_dataset(labels, prepared).flatMap { node, masks, images, _oracle, _reference, need ->
        def row = row_of(plan, node)
        def weights = row.initial_weights && !goes_on(row, node) ? file(row.initial_weights) : []
        def given = [trainer_of(row), kept.get(row.folds_file), weights]
        (0..<row.folds).collect { fold -> [node, fold, train_settings(row, node), images, masks] + given + [[], need.train] }
    }
    .branch { node, _fold, _settings, _images, _masks, _trainer, _folds_file, _weights, _before, _need ->
        warm: goes_on(row_of(plan, node), node)
        fresh: true
    }

    // [[node's id, fold], folder] of the folds that others go on from. As with the labels, `take` ends the topic that TRAIN
    // feeds (without one to take it would never end). What waits for people or has stopped is as good as trained: nothing that
    // goes on from it will come.
    not_made = rounds.awaited.mix(rounds.stopped).flatMap { node, _file -> (0..<row_of(plan, node).folds).collect { fold -> [node, fold, []] } }
    trained = !is_warm(plan)
        ? channel.empty()
        : channel.topic('trained').mix(not_made)
            .filter { node, _fold, _folder -> is_gone_on_from(plan, node) }
            .take(warm_trainings(plan))
            .filter { _node, _fold, folder -> folder }
            .map { node, fold, folder -> [[node.id, fold], folder] }
    warm = folds.warm
        .map { item -> [[node_before(plan, item[0]).id, item[1]]] + item }
        .combine(trained, by: 0)
        .map { _key, node, fold, settings, images, masks, trainer, folds_file, weights, _none, need, before ->
            [node, fold, settings, images, masks, trainer, folds_file, weights, before, need]
        }
    TRAIN(folds.fresh.mix(warm), code_digest('train'))

    // [node, [folders of its folds]]
    ensembles = TRAIN.out.folds
        .map { node, _fold, folder -> [groupKey(node, row_of(plan, node).folds), folder] }
        .groupTuple()
        .map { key, folders -> [key.getGroupTarget(), folders.toSorted { folder -> folder.name }] }

    // [node, settings, prepared folder, whole masks of the test set or [], label masks or [], [folders of folds], the user's
    // trainer or [], memory]
    tests = with_dataset(ensembles.join(labels), prepared).map { node, folders, masks, images, _oracle, reference, need ->
        def row = row_of(plan, node)
        def held_out = has_test_set(row)
        [node, evaluate_settings(row, node), images, held_out ? reference : [], held_out ? [] : masks, folders, trainer_of(row), need.evaluate]
    }
    EVALUATE(tests, code_digest('evaluate'))

    // [node, shard, settings, prepared folder, [folders of folds], the user's trainer or [], memory], for each set of maps that strategies ask for
    shards = with_dataset(ensembles, prepared).flatMap { node, folders, images, _oracle, _reference, need ->
        def row = row_of(plan, node)
        [map_sets(plan, node), 0..<row.shards].combinations().collect { names, shard ->
            [node, shard, predict_settings(row, node, names), images, folders, trainer_of(row), need.predict]
        }
    }
    PREDICT(shards, code_digest('predict'))

    // [node, names of the maps, [uncertainty maps by shard]]
    maps = PREDICT.out
        .map { node, names, file -> [groupKey([node, names], row_of(plan, node).shards), file] }
        .groupTuple()
        .map { key, files -> key.getGroupTarget() + [files.toSorted { file -> file.name }] }

    // [trajectory, labels so far or [], uncertainty maps or []]: the starts, those that need no model, those that do
    asked = channel.fromList(start_trajectories(plan)).map { trajectory -> [trajectory, [], []] }
        .mix(
            labels.flatMap { node, masks ->
                next_trajectories(plan, node, '').collect { trajectory -> [trajectory, masks, []] }
            },
            labels.combine(maps, by: 0).flatMap { node, masks, names, files ->
                next_trajectories(plan, node, names).collect { trajectory -> [trajectory, masks, files] }
            },
        )
    wanted_queries = asked.branch { trajectory, _masks, _files ->
        handed_out: handed_out(values, node_of(plan, trajectory))
        first: true
    }
    queries = with_dataset(wanted_queries.first, prepared).map { trajectory, masks, files, images, oracle, _reference, need ->
        def row = row_of(plan, trajectory)
        def strategy = strategy_of(plan, trajectory)
        def settings = query_settings(row, trajectory, node_of(plan, trajectory))
        def seen = strategy.oracle_aware || settings.class_guarantee ? oracle : []
        def start = trajectory.cycle == 0 ? kept.get(row.start_queries) : []
        [trajectory, settings, images, masks, files, seen, strategy.own ? file(row.strategy_file) : [], start, need.query]
    }
    QUERY(queries, code_digest('query'))
    proposed = QUERY.out.queries.mix(
        wanted_queries.handed_out.map { trajectory, _masks, _files ->
            def node = node_of(plan, trajectory)
            [trajectory, kept_file(handed_out(values, node), "${node.id}.csv")]
        }
    )
    reserves = QUERY.out.reserves.mix(
        wanted_queries.handed_out.map { trajectory, _masks, _files -> [trajectory, kept_file(handed_out_reserve(values, node_of(plan, trajectory)))] }
    )
    STOPS(plan, proposed, asked, EVALUATE.out.metrics)
    query_tables = STOPS.out.going
    queried = with_dataset(query_tables.join(asked), prepared)

    // [trajectory, settings, prepared folder, query, uncertainty maps or [], memory], where pictures are wanted
    pictures = queried.filter { values.view_patches }.map { trajectory, query, _masks, files, images, _oracle, _reference, need ->
        [trajectory, views_settings(row_of(plan, trajectory), trajectory, node_of(plan, trajectory)), images, query, files, need.views]
    }
    VIEWS(pictures, code_digest('views'))

    // [node, settings, prepared folder, whole masks of the pool, query or [] for the whole pool, labels so far or [], memory]
    folders = raw.map { dataset, _rows, folder, _groups, _free, _state -> [dataset, folder] }
    PEOPLE(
        plan,
        values,
        with_dataset(query_tables.join(reserves).join(asked), prepared.join(folders)).map { trajectory, query, reserve, _masks, files, images, _oracle, _reference, need, folder ->
            [trajectory, query, reserve, files, images, folder, need]
        },
    )
    answered = queried.filter { trajectory, _query, _masks, _files, _images, _oracle, _reference, _need -> !by_people(row_of(plan, trajectory)) }
        .mix(
            with_dataset(PEOPLE.out.answers.join(asked), prepared).map { trajectory, query, truth, masks, files, images, _oracle, reference, need ->
                [trajectory, query, masks, files, images, truth, reference, need]
            }
        )
    answers = answered.map { trajectory, query, masks, _files, images, oracle, _reference, need ->
        def node = node_of(plan, trajectory)
        [node, annotate_settings(row_of(plan, trajectory), trajectory, node), images, oracle, query, masks, need.annotate]
    }
    whole_pools = with_dataset(channel.fromList(reference_nodes(plan)).map { node -> [node] }, prepared).map { node, images, oracle, _reference, need ->
        [node, [node: node.id, cycle: 0], images, oracle, [], [], need.annotate]
    }
    ANNOTATE(answers.mix(whole_pools), code_digest('annotate'))
    stopped = rounds.stopped.filter { node, table -> table.baseName == node.id }
    PROGRESS(plan, labels, EVALUATE.out.metrics, rounds.awaited, stopped, told)

    // [uncertainty maps that a query, and pictures of it, have read, how many queries read them]
    read = (values.view_patches ? VIEWS.out.mix(STOPS.out.stopped) : QUERY.out.queries).join(asked)
        .filter { _trajectory, _made, _masks, files -> files && values.cleanup_work }
        .map { trajectory, _made, _masks, files -> [files, readers_of(plan, trajectory)] }
    CLEANUP(read)

    // The run's own protocol: the same text for the same plan and parameters, so that nothing runs anew for it
    design_file = (by_people(values) || plan.any { row -> row.stop } ? EVALUATE.out.metrics.map { node, _file -> node.id }.toSortedList() : channel.of(null))
        .map { made -> ['design.json', json(design(plan, made))] }
        .collectFile()
    parameters_file = channel.of(['parameters.json', json(written)]).collectFile()
    versions_file = channel.of(['versions.json', json(versions())]).collectFile()
    case_tables = prepared.map { dataset, images, _oracle, _reference, _need -> [case_table_name(plan, dataset), images.resolve('cases.csv')] }
    PROTOCOL(parameters_file.map { path -> ['parameters.json', path] }.mix(case_tables))

    PRODUCTS(plan, prepared.join(folders), ensembles, EVALUATE.out.metrics, maps, labels, stopped.map { node, _table -> node_before(plan, node) })

    metrics = EVALUATE.out.metrics.branch { node, _file ->
        reference: row_of(plan, node).whole_pool
        loop: true
    }
    label_files = by_name(labels.filter { node, _masks -> !row_of(plan, node).whole_pool }.map { _node, masks -> masks })
    ANALYSE(
        design_file,
        by_name(metrics.loop.map { _node, file -> file }).filter { files -> files }, // nothing to tell before people have labelled
        by_name(metrics.reference.map { _node, file -> file }),
        label_files,
        by_name(query_tables.map { _trajectory, query -> query }),
        by_name(prepared.map { _dataset, _images, oracle, _reference, _need -> oracle }),
        by_name(TRAIN.out.curves),
        by_name(PEOPLE.out.agreement),
        by_name(stopped.map { _node, table -> table }),
        code_digest('analyse'),
    )
    REPORT(
        design_file,
        ANALYSE.out,
        by_name(VIEWS.out.map { _trajectory, file -> file }),
        label_files,
        parameters_file,
        versions_file,
        code_digest('report'),
    )
}

// Folders that several runs write into.
def shared_folders(plan, values) {
    [file(values.checkpoint_store)] + (values.tensorboard ? [file("${values.outdir}/tensorboard")] : []) + (plan.any { row -> is_awaited(row) } ? [download_folder(values)] : [])
}

// All files of a channel in one list, in an order that does not depend on which came first.
def by_name(paths) {
    paths.toSortedList { a, b -> a.name <=> b.name }
}

def versions() {
    [nextflow: nextflow.version.toString(), (workflow.manifest.name): workflow.manifest.version]
}
