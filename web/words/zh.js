/** @type {import("./index.js").Words} */
export const chinese = {
  jobs: {
    columns: ["提示词", "种子", "状态", "费用", "下单时间", ""],
    states: {
      uncertain: "未收到答复：fal 可能已接单",
      queued: "fal 处理中",
      cancelling: "已取消，但仍可能完成",
      result: "已完成，正在取回",
      done: "可领取",
    },
    unknownCost: "未知",
    spentToday: (dollars) => `今日花费：${dollars}`,
    none: "没有待领取的编辑。",
    refresh: "刷新",
    collect: "领取",
    saved: "已保存到输出文件夹",
    giveUp: "放弃",
    giveUpTitle: "放弃这个编辑？",
    giveUpReady:
      "它已付费。图像将不再列在这里；在清除之前，用相同种子再次运行同一编辑，仍会直接从磁盘读取。",
    giveUpUnfinished:
      "无论结果如何，它都不再列在这里。这不会通知 fal 停止：fal 仍可能完成该编辑并收费。",
    waiting: (count) => `fal 上有 ${count} 个已付费的编辑等待领取：设置 > FireRed > fal`,
  },
  key: {
    label: "fal 密钥",
    source: {
      environment: "密钥来自 ComfyUI 的环境变量，优先于其他来源。",
      file: "密钥已保存在这台电脑上。",
      none: "还没有密钥。请在此创建：",
    },
    placeholder: "粘贴密钥；保存后不再显示",
    fixed: "请修改环境变量 FAL_KEY，然后重启 ComfyUI",
    remote:
      "在这里不能设置、测试或移除密钥：须在运行 ComfyUI 的电脑上通过 localhost 打开页面，" +
      "并且 ComfyUI 只对本机开放。远程 ComfyUI 请设置环境变量 FAL_KEY 并重启。",
    save: "保存",
    saved: "已保存，下一次编辑将使用此密钥。",
    test: "测试密钥",
    outcome: {
      works: "密钥可用。",
      refused: "fal 拒绝了该密钥。",
      unreachable: "无法连接 fal，密钥未经测试。",
    },
    remove: "移除",
    removed: "已移除。",
    confirmTitle: "移除 fal 密钥？",
    confirmRemoval: "这台电脑上的密钥文件将被删除。该密钥在 fal 仍然有效，直到您在那里将其撤销。",
    stored: {
      summary: "fal 保存哪些内容、保存多久",
      items: [
        "提示词、答复以及可随请求发送的较小图像：30 天，保存在您账户的请求历史中。",
        "较大的参考图：保存时长由下方设置决定。任何拿到地址的人都能查看。",
        "结果图像：保存时长由您的 fal 账户设置决定，未设置时不会过期。任何拿到地址的人都能查看。",
        "开启 sync_mode 时的结果图像：随答复返回，不会保存。",
      ],
    },
  },
  cache: {
    delivered: (count, size) => `已交付：${count} 张图像，${size}。`,
    waiting: (count, size) => `等待领取：${count} 张图像，${size}。`,
    records: (count, size) => `日志：${size}，其中记有 ${count} 次上传。`,
    memory: "本地节点的缓存只在内存中：点击 ComfyUI 的“卸载模型并释放内存”按钮即可清除。",
    refresh: "刷新",
    clear: "清除",
    confirmTitle: "删除已交付的图像？",
    confirm:
      "为重复编辑而保留的副本将被删除；您自己保存的图像和等待领取的图像不受影响。" +
      "再次运行这些编辑时，会重新发送到 fal 并重新收费。",
  },
};
