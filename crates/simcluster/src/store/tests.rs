//! What holds for the store whatever the kind.

use serde_json::json;

use super::*;

fn pod(name: &str) -> Value {
    json!({
        "metadata": { "name": name },
        "spec": { "containers": [{ "name": "main", "image": "busybox" }] },
    })
}

#[tokio::test]
async fn a_watch_shows_every_change_after_its_version_in_order() {
    let store = Store::default();
    let (items, mut watch) = store.list_and_watch(Kind::Pod);
    assert!(items.is_empty());
    store.create(Kind::Pod, "default", pod("a")).unwrap();
    store
        .modify(Kind::Pod, "default", "a", |p| {
            p["metadata"]["labels"] = json!({"x": "y"});
        })
        .unwrap();
    store
        .delete(Kind::Pod, "default", "a", &DeleteOptions::default())
        .unwrap();
    for wanted in [Change::Added, Change::Modified, Change::Deleted] {
        assert_eq!(watch.next().await.unwrap().change, wanted);
    }
}
