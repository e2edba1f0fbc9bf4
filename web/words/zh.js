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
        "结果图像：保存时长由您的 fal 账户设置决定；未设置时至少 7 天，也可能不会过期。" +
          "任何拿到地址的人都能查看。",
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
  cost: {
    range: (low, high) => `${low} 至 ${high}`,
    about: (price) => `约 ${price}`,
    perEdit: (price, count) => (count === undefined ? `每张 ${price}` : `每次编辑 ${price}`),
  },
  swap: {
    useFal: "改用 fal",
    useLocal: "改用本地 GPU",
    loaderAdded: "已添加 FireRed Load Model 节点：请在其中选择模型的位置。",
    tooManyPictures: (count) =>
      `本地引擎最多接受 3 张图像，现已连接 ${count} 张。FireRed Stitch References 可将 4 到 12 张合成三张。`,
  },
  templates: {
    menu: "提示词模板",
    menuOfOthers: "英文提示词模板",
    linked: "提示词来自其他节点",
    copied: "模板已复制到剪贴板，请粘贴到那个节点。",
    list: [
      {
        name: "上妆",
        text: "给人物化妆：[玫瑰色]口红、[暖棕色]眼影，淡淡的腮红，眉形清晰，妆容与照片的光线一致。保持五官、肤质、表情、头发、服装和背景不变。",
      },
      {
        name: "试穿（2 张图）",
        text: "让 @图1 中的人物穿上 @图2 中的[外套]，贴合身形和姿势，保留 @图2 的版型、面料、颜色和图案。保持 @图1 的面部、发型、手部、姿势和背景不变。",
      },
      {
        name: "修复老照片",
        text: "修复这张老照片：去除划痕、灰尘、污渍和折痕，恢复细节，改善褪色。保持人物面部、表情、服装和构图不变，[保持黑白]。",
      },
      {
        name: "修改文字",
        text: "把文字“[原文字]”改为“[新文字]”。保持字体、字号、颜色、位置和透视不变，画面其余部分不变。",
      },
      {
        name: "重新打光",
        text: "用来自[左侧]的[傍晚斜阳]为画面重新打光，高光、阴影和反光与新光线一致。保持人物、物体和构图不变。",
      },
      {
        name: "移除物体",
        text: "移除[背景中的行人]及其影子和倒影，用其后方应有的景物自然填补。画面其余部分保持不变。",
      },
      {
        name: "更换背景",
        text: "把背景换成[黄昏时安静的海滩]，主体上的光线和色调与新环境协调，发丝边缘自然。保持主体的面部、姿势、服装、大小和位置不变。",
      },
      {
        name: "人像精修",
        text: "精修人像：去除[痘印和黑眼圈]，均匀肤色，减弱油光。保留毛孔、痣、皱纹、脸型和表情，皮肤以外的部分不变。",
      },
      {
        name: "更换颜色",
        text: "把[裙子]的颜色改为[翠绿色]。保持材质、褶皱、图案和明暗不变，其他颜色不变。",
      },
      {
        name: "转换风格",
        text: "把画面重绘为[粗纹纸上的水彩画]。保持构图、人物的姿势和表情以及各元素的位置不变。",
      },
    ],
  },
  errors: {
    settings: "打开设置",
    billing: "打开 fal 账单页面",
    node: "显示节点",
    close: "关闭",
    times: (count) => `${count} 次`,
  },
};
