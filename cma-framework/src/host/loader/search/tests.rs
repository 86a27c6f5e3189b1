//! Which folders are searched, in which order, for which files.

use super::*;

const NOTHING: [PathBuf; 0] = [];

fn folders(search: &SearchPath) -> Vec<(&str, Origin)> {
    search.folders().map(|(folder, origin)| (folder.to_str().unwrap(), origin)).collect()
}

fn put(folder: &Path, names: &[&str]) {
    fs::create_dir_all(folder).unwrap();
    for name in names {
        fs::write(folder.join(name), "").unwrap();
    }
}

#[test]
fn the_users_word_goes_before_the_environments_and_that_before_the_executables_place() {
    let search = SearchPath::new(
        &["/option/b".into(), "/option/a".into()],
        Some("/env/b::/env/a".as_ref()),
        Some("/opt/bin/cma".as_ref()),
    );
    let expected = [
        ("/option/b", Origin::User),
        ("/option/a", Origin::User),
        ("/env/b", Origin::Environment),
        ("/env/a", Origin::Environment),
        ("/opt/bin/deps", Origin::Executable),
        ("/opt/bin/../lib/cma", Origin::Executable),
        ("/opt/bin", Origin::Executable),
    ];
    assert_eq!(folders(&search), expected);
}

#[test]
fn an_executable_in_a_deps_folder_finds_what_was_built_with_it_first() {
    let search = SearchPath::new(&NOTHING, None, Some("/target/debug/deps/loader-1f".as_ref()));
    assert_eq!(folders(&search)[0], ("/target/debug/deps", Origin::Executable));
}

#[test]
fn without_an_executable_or_a_word_of_the_user_nothing_is_searched() {
    let search = SearchPath::new(&NOTHING, Some("".as_ref()), None);
    assert_eq!(folders(&search), []);
    assert!(search.candidates().is_empty());
}

#[test]
fn only_files_with_a_plugins_name_are_candidates() {
    let good = ["best_fit", "x", "cma_plugin"]
        .map(|name| format!("{DLL_PREFIX}cma_{name}_plugin{DLL_SUFFIX}"));
    assert!(good.iter().all(|name| is_plugin_name(name.as_ref())));
    let bad = [
        "",
        "libcma__plugin.so",
        "libcma_plugin.so",
        "libcma_a_plugin.so.1",
        "cma_a_plugin.so",
        "libcma_a.so",
    ];
    assert!(bad.iter().all(|name| !is_plugin_name(name.as_ref())));
}

#[test]
fn candidates_are_sorted_in_each_folder_and_the_first_folder_wins_a_name() {
    let root = tempfile::tempdir().unwrap();
    let (user, bin) = (root.path().join("user"), root.path().join("bin"));
    put(&user, &["libcma_b_plugin.so", "libcma_a_plugin.so", "readme"]);
    put(&bin.join("deps"), &["libcma_c_plugin.so", "libcma_b_plugin.so"]);
    put(&root.path().join("lib/cma"), &["libcma_d_plugin.so"]);
    put(&bin, &["libcma_c_plugin.so", "cma"]);
    let search = SearchPath::new(std::slice::from_ref(&user), None, Some(&bin.join("cma")));
    let found: Vec<_> =
        search.candidates().into_iter().map(|candidate| candidate.unwrap()).collect();
    let expected = [
        (user.join("libcma_a_plugin.so"), Origin::User),
        (user.join("libcma_b_plugin.so"), Origin::User),
        (bin.join("deps/libcma_c_plugin.so"), Origin::Executable),
        (bin.join("../lib/cma/libcma_d_plugin.so"), Origin::Executable),
    ];
    assert_eq!(found, expected.map(|(path, origin)| Candidate { path, origin }));
}

#[test]
fn a_missing_folder_is_an_error_where_the_user_named_it_and_nothing_elsewhere() {
    let root = tempfile::tempdir().unwrap();
    let (gone, there, file) =
        (root.path().join("gone"), root.path().join("there"), root.path().join("file"));
    put(&there, &["libcma_a_plugin.so"]);
    put(root.path(), &["file"]);
    let search =
        SearchPath::new(&[gone.clone(), file], Some(gone.as_os_str()), Some(&there.join("cma")));
    let found = search.candidates();
    let says = |at: usize, words: &str| {
        let error = found[at].as_ref().unwrap_err().to_string();
        assert!(error.contains(words), "\"{words}\" is not in: {error}");
    };
    says(0, "/gone: the plug-in path names this folder, and it is not there");
    says(1, "/file: the plug-in path names this folder, and it can't be listed");
    says(2, "/gone: CMA_PLUGIN_PATH names this folder, and it is not there");
    assert_eq!(found[3].as_ref().unwrap().path, there.join("libcma_a_plugin.so"));
    assert_eq!(found.len(), 4);
}
